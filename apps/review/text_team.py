"""Every sentence that the pages for the evaluation team show."""

NO_LABELS = "No picture here has a confirmed answer, so nothing on this page can say how well the model does."
ONE_KIND = "Every picture with a confirmed answer has the same one, so this cannot be computed."
NO_PARTS = "The rows behind this evaluation cannot be read, so part of this page is left out."
NO_SOURCE = (
    "The run that the model comes from is no longer beside this evaluation, so its curves and pictures "
    "are left out; its figures in the report stand."
)
MORE_TABLES = "All tables"
NOT_RUN = "Not run: {why}"
UNKNOWN = "nothing is known of it"
UNNAMED_TABLE = "Table"

# --- cases ---
CASE = "case"
WHICH_CASE = "Which case?"
OPEN = "Open this case"
FLAG = "Send to my worklist"
FLAGGED = "Flagged in your worklist."
NO_CASES = "There is no such case."
FIRST_OF = "The first {shown} of {all} cases."
CASE_COLUMNS = {
    "case": "case",
    "score": "model's chance",
    "line": "flagged from",
    "label": "confirmed answer",
    "unlike": "stranger than ... % of the source",
}
CASES_ALT = (
    "Table of cases: image, model's chance, confirmed answer, and how unlike the source it is."
)

# --- data check ---
DATA_TITLE = "Data check"
DATA_WHY = "What became of every file: found, readable, decoded, labelled, analysed."
FUNNEL = "From found to analysed"
FUNNEL_ALT = (
    "Steps from files found to pictures analysed, with pictures, patients and share of the files."
)
FUNNEL_COLUMNS = ("step", "files or pictures", "patients", "share of all files")
FOUND, READABLE = "files found", "readable as an image"
NO_COHORT = (
    "The cohort of this evaluation is no longer where it was read, so files, reasons, copies and the "
    "check's findings cannot be shown. What the report holds is below."
)
REASONS = "Why files were left out"
REASON_COLUMNS = ("code", "what became of them", "first reason given", "files")
REASONS_ALT = "Files that were skipped or quarantined, by code, with the first reason and a count."
NO_REASONS = "No file was left out."
NO_QUARANTINE = "quarantine.csv is absent or cannot be read, so the reasons are not known."
LABELS = "Labels"
LABEL_COLUMNS = ("table", "rows", "joined", "without an image", "images without a row", "twice")
LABELS_ALT = "Label tables: rows, how many joined an image, orphans on both sides, duplicates."
LABEL_FAILS = "Only {joined} of {rows} rows of {table} found an image. Check the key column."
TRAINED = "Patients also in training"
NOT_TRAINED = (
    "None is known. An evaluation refuses patients and pictures that the model was trained on. They are "
    "compared by digest: a person under another pseudonym is found only by an identical picture."
)
TRAINED_HERE = "Yes, and it was allowed: {note}"
COPIES = "Copies"
NO_COPIES = "No two pictures are copies of one another."
COPIES_WORDS = (
    "Pairs of copies or near copies: {pairs}, of which {across} are of two patients. A copy under two "
    "patients is one person twice, or a mix-up."
)
COPIES_UNKNOWN = "Copies are not known: {why}"
COPY_COLUMNS = ("one", "the other", "kind", "same patient", "correlation")
COPIES_ALT = (
    "Pairs of pictures that are copies or near copies, with whether they are of one patient."
)
COPY_KIND = {
    "exact": "same pixels",
    "near": "nearly the same",
    "mirrored": "flipped or turned",
    "negative": "black and white exchanged",
}
SAME, OTHER = "yes", "no"
HEADERS = "What the headers leave out"
HEADER_COLUMNS = ("field", "pictures without it here", "at the source")
HEADERS_ALT = "Share of the pictures without each header field, here and at the source."
INVERTED = "{share} of the pictures are stored inverted (MONOCHROME1); they were turned round when decoded."
NO_SPACING = "{share} of the pictures have no pixel spacing: lengths on them stay uncalibrated."
CHECK = "Findings of medssl check"
NO_CHECK = "The cohort has no findings yet. Make them with: medssl check COHORT"
OLD_CHECK = "The cohort changed after medssl check looked at it. Run it again."
CHECK_COLUMNS = ("level", "finding", "code")
CHECK_ALT = "Findings of the check, the worst first: level, sentence and code."
CHECK_FINE = "medssl check found nothing to look at."
LEVELS = {"stop": "stop", "warn": "look", "note": "note", "ok": "fine"}
HIDDEN = "Counts of one to four patients are shown as <5."

# --- is this site different ---
DIFFERENT_TITLE = "Is this site different?"
DIFFERENT_WHY = (
    "Pictures, headers and answers of the two hospitals side by side; no label is needed."
)
IN_SHORT = "In short"
DIFFERENT_YES = "Yes, the pictures here differ from those of the source ({p})."
DIFFERENT_NO = (
    "No difference was found between the pictures here and those of the source ({p}). That does not "
    "prove that there is none."
)
DIFFERENT_OPEN = "It cannot be told whether the pictures differ. {why}"
TOLD_APART = (
    "From a patient's pictures a computer tells the two hospitals apart with AUROC {auroc} ({p}; by chance "
    "it stays below {chance})."
)
COLUMNS_DIFFER = (
    "Of {all} header fields and pixel figures compared, {sure} differ (adjusted p below 0.05)."
)
RANKED = "Largest differences first"
MIX_WORDS = (
    "AUROC at the source {source}. If only the mix of patients differed, {weighted} would be expected "
    "here; {target} was observed."
)
MIX_NONE = "The fall cannot be divided into other patients and the model: {why}"
LEVEL_OF_P = (
    "A small p says that the hospitals differ, not that the model is worse. p is adjusted for the "
    "number of columns after Benjamini and Hochberg."
)
MAP = "Map of the pictures as the model sees them"
MAP_WORDS = (
    "Every mark is a picture; near ones look alike to the model. Two axes keep {share} of what differs, "
    "so far marks are far, near ones may still differ. Shown: {here} of {all_here} here, {source} of "
    "{all_source} at the source. Select a mark to take its case to hand."
)
MAP_ALONE = (
    "The source's own pictures did not travel with the model, so the map shows this hospital alone."
)
MAP_ALT = (
    "Scatter of the pictures on two principal axes: circles are {here}, squares the source, a star the "
    "case at hand. The same cases are in the table of the strangest pictures below."
)
MAP_NONE = "There are too few pictures for a map."
AXES = ("first axis", "second axis")
HERE, SOURCE, AT_HAND = "here", "source, held-out", "case at hand"
HAND = "At hand: {case}"
HAND_NONE = "No case is at hand yet: select a mark or a row."
STRANGEST = "Strangest pictures"
STRANGEST_WORDS = "Stranger than {beyond:g} % of the source's own: {share} of the pictures here."
NO_STRANGEST = "How unlike single pictures are is not known here."

# --- results ---
RESULTS_TITLE = "Results"
RESULTS_WHY = "How well the model ranks, here and at the source, with 95 % intervals over patients."
IMAGES_TABLE, PATIENTS_TABLE = "By image", "By patient (mean chance; positive if any image is)"
ROC_ALT = "ROC curves of {name}, here and at the source. The numbers are in the tables."
ROC_TITLE = "Found against false alarms"
RANK_ALT = "AUROC with 95 % intervals by hospital: {told}."
RANK_TITLE = "AUROC by hospital"
FLOOR, COIN = "floor", "a coin"
PEOPLE = "Per 100 pictures at the source's line"
PEOPLE_WORDS = (
    "Of 100 pictures here {found} are found, {missed} missed, {alarms} false alarms and {left} rightly "
    "left alone."
)
PEOPLE_ALT = (
    "One hundred marks: {found} found, {missed} missed, {alarms} false alarms, {left} left alone."
)
CELLS = {
    "found": "found",
    "missed": "missed",
    "alarms": "false alarm",
    "left": "rightly left alone",
}
CELL_COLUMNS = ("outcome", "per 100", "95 % from", "to")
CELLS_ALT = (
    "Counts per 100 with their 95 % limits: found, missed, false alarms, rightly left alone."
)
ENOUGH = "Is it enough data?"
ENOUGH_ROW = "{name}: {had} of {needed} patients needed{found}"
ENOUGH_NO_NEED = "{name}: the patients needed are not known"
ENOUGH_FOUND = "; the interval found is narrow enough"
CRITERIA = {
    "oe": "observed / expected",
    "auroc": "AUROC",
    "slope": "calibration slope",
    "net_benefit": "net benefit",
}
AFTER, BEFORE = "As it turned out here:", "As foreseen from the source:"
NO_SIZE = "How many patients are needed is not known."

# --- groups ---
GROUPS_TITLE = "Groups"
GROUPS_WHY = "For whom does it hold? Every group that was named before looking, beside all others."
GROUPS_ALT = "{metric} by group with 95 % intervals; the numbers are in the table below."
METRIC = "Figure"
METRICS = {
    "auroc": "AUROC",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "observed_over_expected": "observed / expected",
}
ALL_HERE = "all patients here"
FEW_RULE = (
    "Fewer than {patients} patients, or fewer than {events} with or without the finding, are too few to "
    "say. p is adjusted after Holm over all groups."
)
NO_GROUPS = "No group can be compared."
GROUP_CASES = "Cases of a group"
WHICH_GROUP = "Which group?"
ONLY_WRONG = "Only those where model and confirmed answer disagree"
TO_WORKLIST = "Show these in the worklist"
SENT = "The worklist now shows these {count} cases: {words}."
GROUP_UNKNOWN = "Which pictures are of this group cannot be told from the files here."

# --- threshold ---
THRESHOLD_TITLE = "Calibration and threshold"
THRESHOLD_WHY = "Whether the percentages are right here, and what another line would do."
CALIBRATION = "Do the percentages mean what they say?"
CALIBRATION_ALT = "Chance given against share observed for {name}, with band and ten groups."
PROMISES = "Lines that keep a promise"
PROMISE_WORDS = "{rate} of {target}: flag from {line}. {note}"
NOT_REACHED = "{rate} of {target}: not reachable. {note}"
USE_PROMISE = "Try the line of {rate} {target}"
USE_WORKING = "Back to the working line"
RATES = {"sensitivity": "sensitivity", "ppv": "positive predictive value"}
LINE = "Where to draw the line"
SLIDER = "Flag from this chance, in %"
UNIT = "Count"
PER_PATIENT, PER_IMAGE = "patients", "images"
UNIT_WORDS = {
    PER_PATIENT: "A patient is flagged if any image is, and has it if any image has.",
    PER_IMAGE: "Every image counts once; intervals still take the patient as the unit.",
}
PER_HUNDRED = (
    "Per 100 {unit}: {flagged} flagged, {found} found, {alarms} false alarms, {missed} missed."
)
FLAGGED_ONLY = "Per 100 {unit}: {flagged} flagged ({lower} to {upper})."
LINE_COLUMNS = ("figure", "value", "95 % from", "to", "counted on")
LINE_ALT = "What the chosen line does: counts per 100 and rates, with 95 % intervals."
LINE_ROWS = {
    "flagged": "flagged per 100",
    "found": "found per 100",
    "alarms": "false alarms per 100",
    "missed": "missed per 100",
    "sensitivity": "sensitivity, %",
    "specificity": "specificity, %",
    "ppv": "of the flagged have it, %",
    "npv": "of those not flagged are free of it, %",
}
OPTIMISM = (
    "These are the patients that the line is chosen on: expect slightly less from new ones. Intervals "
    "are Wilson's with the patient as the unit. Nothing here changes the model or its line."
)
BENEFIT = "Is it worth it?"
HARM = "How many false alarms would you accept to find one case that would otherwise be missed?"
HARM_WORDS = (
    "That is acting from a chance of {chance}. At the line above the model is {worth} the better of "
    "flagging everyone and no one: {value} findings per 100 images ({lower} to {upper})."
)
BETTER, WORSE, OPEN_WORTH = (
    "better than",
    "worse than",
    "not shown to be better or worse than",
)
BENEFIT_NONE = "The worth cannot be computed: {why}"
DECISION_ALT = "Net benefit of {name} by threshold, beside flagging everyone or no one."
TIME = "Does it drift?"
EXPORT = "Save this line as text"
EXPORT_FILE = "line.txt"
EXPORT_HEAD = """{banner}

Line for {name} at {sites}
Model {model}, version {version}; report of {written}
Flag from: {line}
Working line of the source: {working}
Counted by: {unit}; {rows} rows of {patients} patients with a confirmed answer
{unit_words}
"""
EXPORT_ROW = "{name}: {value} ({lower} to {upper})"
EXPORT_FOOT = "\nThis file changes nothing by itself.\n{optimism}\n"

# --- errors ---
ERRORS_TITLE = "Errors"
ERRORS_WHY = "Where the model is sure and the confirmed answer says otherwise."
ERRORS_WORDS = (
    "{errors} of {labelled} pictures with a confirmed answer are on the wrong side of the line "
    "({share}): {missed} missed, {alarms} false alarms."
)
CONFIDENT_WORDS = (
    "{count} of them are confident: farther from the line than the middle one of all pictures. The "
    "farthest come first."
)
NO_ERRORS = "No picture with a confirmed answer is on the wrong side of the line."
KIND = "Which errors?"
KINDS = {"all": "both kinds", "missed": "missed", "alarms": "false alarms"}
ERROR_GROUPS = "What they have in common"
GROUPS_FOUND = (
    "Errors that look alike to the model (k-means on what it sees), named by what is more common in "
    "them than in all pictures here. Found by looking: take them as a hint and test them on new patients."
)
GROUP_LINE = (
    "{name}: {errors} errors of {patients} patients. More common than in all pictures: {words}."
)
TOO_SMALL = "too few to say"
GROUP_NAME = "group {number}"
GROUP_ALL = "all groups"
WHICH_ERRORS = "Show"
NOTHING_COMMON = "nothing stands out"
OVER = "{level} {inside} instead of {everywhere}"
DARKER, BRIGHTER = "low {name}", "high {name}"
PIXEL_WORDS = {
    "brightness": "brightness",
    "contrast": "contrast",
    "sharpness": "sharpness",
    "border_brightness": "brightness of the border",
    "padding": "padding",
}
LEVEL_NAME = "{name} {level}"
SUSPECTS = "Labels to look at again"
SUSPECTS_WORDS = (
    "Confident errors whose {many} most similar pictures of other patients mostly have the other answer. "
    "The model never saw these pictures, so their labels cannot have taught it."
)
SUSPECTS_WEAK = (
    "Here the model does not surely rank above its floor ({auroc}), so its disagreement says little "
    "about the labels."
)
NO_SUSPECTS = "No label stands out."
SUSPECT_COLUMN = "similar ones with its label"

# --- report ---
REPORT_TITLE = "Report"
REPORT_WHY = "The whole report as files, what a person must still write, and what changed."
FILES = "Files"
FILE_NAMES = {
    "report.html": "Report as a page (HTML)",
    "report.pdf": "Report for printing (PDF)",
    "report.json": "Every figure (JSON)",
    "CARD.md": "Model card (Markdown)",
}
TABLES_ZIP = "All tables (zip of CSV and Parquet)"
TABLES_FILE = "tables.zip"
ABSENT_FILE = "{name}: not made by this evaluation."
NOTE_FILE = "README.txt"
CHECKLISTS = "Reporting checklists"
CHECKLIST_LINE = (
    "{name}: {filled} of {all} items filled by the report, {part} in part, {person} for a person"
)
CHECKLIST_NOTE = "A section that is there answers an item; it does not say that the answer is good."
CHECKLIST_COLUMNS = ("item", "what it asks", "state", "here")
CHECKLIST_ALT = "Items of {name} with who has answered them."
STATES = {
    "filled": "filled",
    "part": "in part",
    "person": "a person must write it",
    "not run": "not run",
}
ONLY_OPEN = "Only what is still open"
MUST_WRITE = "What a person must still write"
PERSON_MARK = "To be written by a person:"
COMPARE = "Compared with another report of this model"
COMPARE_WITH = "Which one?"
COMPARE_COLUMNS = ("figure", "{old}", "{new}", "how they compare")
COMPARE_ALT = "Every figure of two reports side by side."
NO_OTHER = "There is no other finished report of this model here."
CANNOT_COMPARE = "They cannot be compared: {why}"
