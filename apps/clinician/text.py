"""Every sentence the page shows: one place to translate, one place to have reviewed."""

BANNER = "Research use only. Not for diagnosis."
TITLE = "medssl review"
PICK = "Which evaluation?"
NO_RUNS = "There is no finished evaluation here yet."
TRUST, CASES = "How far to trust it here", "Cases"
VERDICT = "Verdict: {answer}"
UNLABELLED = "There are no confirmed answers here, so nothing can be said about how well it does."
TABLE = "At the hospital it learnt from, and here (value, 95 % interval over patients)"
SHIFT = (
    "Its images differ from those it learnt from (p = {p:.3g}); {unlike:.1f} % are unlike nearly all "
    "of them (1 % is expected)."
)
NO_SHIFT = "No difference to the images it learnt from was shown (p = {p:.3g}). That is no proof."
FILTER = "Show"
FILTERS = ("all", "flagged", "not flagged", "disagrees with the confirmed answer")
SORT = "Order"
SORTS = ("close to the line first", "highest chance first", "by code")
NOTHING = "No case fits this choice."
CASE = "Case"
CHANCE = "Chance of {target} = {name}: {percent:.0f} %"
LINE = "The line is drawn at {percent:.0f} %: this case would {word}be flagged."
CONFIRMED = "Confirmed answer: {label}"
NOT_CONFIRMED = "No confirmed answer."
OTHERS = "Other images of this patient"
NO_OTHERS = "This patient has no other image here."
SIMILAR = "Similar cases it learnt from, of other patients"
SIMILAR_TEXT = "confirmed: {label}; {closeness} similar"
CLOSENESS = ((0.9, "very"), (0.75, "fairly"), (-1.0, "barely"))
SMALL = (
    "The pictures are shown as the model sees them, {size} pixels wide; they are not for reading."
)
ALT = "Image {code}, {size} by {size} pixels, as the model sees it"
NOT_HERE = "The pictures of this cohort are not on this machine."
EXPECTED = "{n} images of {patients} patients; {labelled} with a confirmed answer."
