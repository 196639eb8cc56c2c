"""The last section: what the words of the report mean, for a reader who is no statistician."""

from medssl.evaluate.report.page import Material, Section, section, table

GLOSSARY = (
    (
        "AUROC",
        "The share of pairs, one picture with and one without the finding, in which the first gets the higher "
        "chance. 1 is perfect, 0.5 a coin.",
    ),
    (
        "average precision",
        "How clean the list stays when pictures are read from the highest chance down; a coin "
        "scores the prevalence.",
    ),
    (
        "BBSE",
        "How common a class is, from how often the model calls it and how often it errs at the source.",
    ),
    ("BCa", "An interval by resampling patients that corrects for bias and for a skewed spread."),
    (
        "Benjamini-Hochberg",
        "A correction for many tests that keeps the share of false alarms among the findings low.",
    ),
    ("Brier score", "Mean squared distance between percentage and truth; 0 is perfect."),
    (
        "calibration slope",
        "1 when high and low percentages are as far apart as the truth; below 1 they are too far apart.",
    ),
    (
        "conformal set",
        "A set of answers that holds the right one for a promised share of patients like the source's; "
        "a set of several says: not sure.",
    ),
    ("Cramér's V", "How far the shares of levels differ: 0 not at all, 1 wholly."),
    ("cumulative sum (CUSUM)", "What came less what was foretold, added up month by month."),
    ("DeLong", "A formula for the error of an AUROC, here with the patient as the unit."),
    ("embedding", "The numbers into which the network turns a picture before it answers."),
    (
        "floor",
        "The least that is asked of a number; the first page says whether it was ever changed.",
    ),
    ("Fréchet distance", "How far two clouds of embeddings lie apart in place and spread."),
    ("Holm", "A correction for many tests that keeps the chance of even one false alarm low."),
    ("ICI", "Mean distance between percentage and smoothed truth (integrated calibration index)."),
    (
        "interval",
        "The values that fit the data: in 95 of 100 such studies it would hold the true one.",
    ),
    (
        "likelihood ratio",
        "How much a flag, or its absence, changes the odds of the finding; 1 is not at all.",
    ),
    (
        "MMD",
        "A test whether pictures of two hospitals, as the network sees them, could be of one kind.",
    ),
    (
        "net benefit",
        "Findings per picture less false alarms, these at the price that the threshold puts on them.",
    ),
    (
        "observed / expected (O/E)",
        "How many had the finding, divided by how many the percentages foretold.",
    ),
    (
        "p",
        "How often chance alone would give at least such a difference. A large p is not proof of no difference.",
    ),
    (
        "predictive value",
        "Of those flagged, the share with the finding (positive); of the others, without it (negative).",
    ),
    (
        "recalibration",
        "Changing the percentages, with a few local labels, without changing the network.",
    ),
    ("selective risk", "The share of errors when the least sure answers are left to a person."),
    (
        "sensitivity, specificity",
        "Of those with the finding, the share flagged; of those without, the share not flagged.",
    ),
    (
        "standardised difference (SMD)",
        "A difference of means in standard deviations; about 0.2 is small.",
    ),
)


def glossary(material: Material) -> Section:
    """Return what the words mean."""
    del material
    return section(
        "glossary", "Glossary", (), (), [table("Words used here", ("word", "meaning"), GLOSSARY)]
    )
