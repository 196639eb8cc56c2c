"""Every sentence of the pages for researchers; they may use the field's words."""

# --- shared ---
DAMAGED = (
    "{run}: {file} is absent, damaged or not what its name says. Write the run again, or take it out "
    "of the folder."
)
PICK_RUN = "Which run?"
RUN = "run"
AS_TABLE = "{what} as a table"
STEP = "step"
NO_COHORT = (
    "The cohort of this run is no longer where the run read it, so its pictures cannot be shown. Put "
    "it back, or choose another run."
)

# --- Runs ---
RUNS_TITLE = "Runs"
RUNS_PURPOSE = (
    "Every run in this folder: what it is, how it goes, how it went, and how to repeat it."
)
NO_RUNS = (
    "There is no run in this folder yet. Make one with: medssl pretrain CONFIG --data COHORT --out "
    "RUN"
)
RUNS_ALT = "A table of {n} runs with their status, method, network, figures and time."
REFRESH = "Refresh every 5 seconds while a run is going"
STATES = {
    "done": "done",
    "failed": "failed",
    "running": "running",
    "stopped": "stopped without ending",
    "unknown": "not known",
    "broken": "not readable",
}
STATUS, VERB, METHOD, BACKBONE = "status", "verb", "method", "network"
FIGURES, TIME, DEVICE, STARTED, NOTE = "figures", "time", "device", "started (UTC)", "note"
SECONDS, MINUTES, HOURS = "{n} s", "{n} min", "{n:.1f} h"
TESTED = "test {metric} {value:.3f} ({low:.3f} to {high:.3f})"
VERDICT = "{verdict}; AUROC {auroc}"
LAST_LOSS = "loss {loss:.3f} after {steps} steps"
UNREADABLE = {
    "E-NORUN": "It has no run.json, so it was never begun or was emptied. Run it anew in another folder.",
    "E-RUN": "Its run.json is not readable as JSON. Run it anew in another folder.",
}
BROKEN = "{run}: {why}"
NO_SETTINGS = "A run of {verb} has no settings that could be compared."
EXTENDS = (
    "{run}: its config.yaml points to another file; the settings of a run are complete in "
    "themselves."
)
CURVES = "Curves"
PICK_CURVES = "Which runs? Up to six share every chart."
NO_LOGS = "No run here has a log of its steps; pretraining writes one."
FIELDS = {
    "loss": "Loss",
    "lr": "Learning rate",
    "images_per_s": "Pictures per second",
    "z_std": "Spread of the projections",
    "pair_share": "Share of pairs with two different pictures",
    "effective_rank": "Effective rank",
}
CURVE_ALT = "{run} goes from {first:.4g} to {last:.4g}, between {low:.4g} and {high:.4g}"
CURVES_ALT = "{field} by step. {runs}."
TASK = "What the task asks, and what the network answers"
TASK_WHY = (
    "Some training pictures at the end of {run} ({method}); the figures are over {judged} pictures that it "
    "was trained on."
)
TASK_ALT = (
    "{shown} rows of tiles, one row per training picture. Columns from left to right: {columns}."
)
TASK_COLUMNS = "Columns: {columns}."
TASK_ROWS = "Row by row"
TASK_ROW, TASK_SAYS = "row", "asked and answered"
TASK_NONE = "No run here has pictures of its task; pretraining writes them (log.pictures)."
TASK_BROKEN = "{run}: pretext.json or pretext.png is damaged."
REPEAT = "Repeat a run"
REPEAT_WHY = "The same settings, data and seed; another folder for what comes out."
RESUME_WHY = "This one did not end. Go on from its last checkpoint:"
AGAIN = "-again"
NO_COMMAND = "A run of {verb} has no command line to repeat it from its own folder."
DIFFERENCE = "What differs between two runs"
NEED_TWO = "Two runs of one kind are needed."
FIRST_RUN, SECOND_RUN = "First run", "Second run"
SETTING, FIRST, SECOND = "setting", "first", "second"
SAME_SETTINGS = "Their settings are the same."
DIFFERENCE_ALT = "A table of {n} settings that differ between the two runs."

# --- health of a run ---
STOPPED = (
    "It says that it is running, but nothing was written for a minute and no process holds it: it "
    "stopped without ending. Go on with --resume."
)
FAILED = "It ended with {code}."
NOT_FINITE = (
    "{name} is not a finite number at step {step}. Lower optim.lr, or raise method.temperature."
)
UNREADABLE_LINES = "{n} line(s) of its log are not readable; the last one may be half written."
AT_CHANCE = (
    "The loss stays at {loss:.3f}, where it is when every picture looks alike: the log of the number "
    "of negatives plus one, about {chance:.3f} here. It has learnt nothing, or collapsed."
)
ROSE = "The loss rose from {first:.3f} to {last:.3f}. Lower optim.lr."
FLAT = "The loss hardly moved: {first:.3f} at first, {last:.3f} at last."
FELL = "The loss fell from {first:.3f} to {last:.3f}."
COLLAPSED = (
    "The projections spread by {spread:.4f} where {healthy:.4f} is healthy (one over the root of their "
    "width): collapsed from step {step} on."
)
LOW_RANK = (
    "The effective rank is {rank:.1f}: the projections lie along next to one direction from step "
    "{step} on."
)
SLOWER = "It slowed down from {first:.0f} to {last:.0f} pictures per second."
NO_PAIRS = "No drawn patient had two different pictures: MICLe does here what SimCLR does."
PAIRS = (
    "{percent:.0f} % of the drawn patients had two different pictures; the others gave two views of"
    " one."
)
HEALTHY = (
    "No warning sign: the numbers are finite, the loss moved, nothing collapsed. This is all that "
    "was looked at."
)
TOO_SHORT = "Its log has {n} line(s), too few to judge."

# --- Representation ---
MAP_TITLE = "Representation"
MAP_PURPOSE = (
    "What an encoder puts near what: by label, site, maker and patient; one encoder beside another."
)
NO_MAPS = (
    "There is no finished run with embeddings here. Make one with: medssl finetune CONFIG --encoder"
    " RUN --data COHORT --out RUN"
)
PICK_MAP, PICK_OTHER = "Which run?", "Beside it"
ALONE = "nothing"
COLOUR_BY = "Colour and shape by"
LABEL, SITE, SPLIT, PATIENT = "label", "site", "split", "patient"
NOT_KNOWN, OTHERS = "not known", "all others"
QUARTER = "{low:.3g} to {high:.3g}"
PART_SHOWN = "{shown} of {all} pictures, drawn as whole patients; every figure below is of these."
ALL_SHOWN = "All {all} pictures."
COMPONENT = "principal component {k} ({percent:.0f} % of the variance)"
THIS_ONE = "the chosen picture"
MAP_ALT = (
    "Map of {n} pictures along the first two principal components, coloured by {by}: {kinds}. The list "
    "below chooses any of them by keyboard."
)
KIND_ALT = "{n} of {level}"
PICK_PICTURE = "Choose a picture, or point at it on the map"
PICTURE_NAME = "{k}: picture {image}, patient {patient}"
PICTURE_NAME_SLICE = "{k}: picture {image} slice {slice}, patient {patient}"
PICTURE_ALT = "Picture {image} of patient {patient}; label {label}."
PICTURE_FACTS = "Patient {patient}; label {label}; {site}; {split}."
NEIGHBOURS = "Nearest to it"
NEIGHBOUR = "{rank}: similarity {cosine:.3f}; {whose}; label {label}"
SAME_PATIENT, OTHER_PATIENT = "same patient", "another patient"
SHOW_ON_MAP = "Show it on the map"
OPEN_VIEWER = "Open it in the viewer"
NUMBERS = "In numbers"
MEASURE, VALUE, INTERVAL, BY_CHANCE, COUNTED = (
    "measure",
    "value",
    "95 % interval",
    "by chance",
    "of",
)
RETRIEVAL = "same patient in the {k} nearest"
QUERIES = "Asked of {n} pictures of {patients} patients with others here."
NO_QUERIES = "No patient here has two pictures, so finding the same patient cannot be measured."
RANK = "effective rank"
OF_WIDTH = "at most {n}"
NUMBERS_ALT = (
    "A table of retrieval of the same patient by number of neighbours, with its chance level, and "
    "the effective rank."
)
RETRIEVAL_WHY = (
    "By cosine similarity: whether another picture of the same patient is among the nearest. Slices of "
    "one volume never count as found. An encoder that finds the same person far beyond chance can also "
    "give that person away: treat embeddings like images."
)
READABLE = "What can be read from the encoders"
READABLE_WHY = (
    "AUROC of a linear classifier on the embeddings, patients kept apart; from the report of {run}."
    " 0.5 is chance."
)
ENCODER, WHAT = "encoder", "what is read"
READABLE_ALT = (
    "A table of {n} AUROCs: what a linear classifier reads from every encoder of the chain."
)
NO_READABLE = "No evaluation of this run here says what can be read from its encoder."
EFFICIENCY = "Label efficiency"
EFFICIENCY_ALT = "Test {metric} by number of labelled patients. {lines}."
LINE_ALT = "{name} from {first:.3f} at {low} patients to {last:.3f} at {high}"
NO_CURVE = "This run has no label-efficiency curve; finetune writes one."
LABELLED_PATIENTS = "labelled training patients"
TEST_METRIC = "test {metric}"
CURVE_NAME = "{init}, {mode}"
SAME_PICTURES = "Both maps and all figures are of the {n} pictures that both runs embedded."
OTHER_PICTURES = "The two runs embedded different pictures: their figures cannot be compared."
NOT_ALIGNED = (
    "{run}: {rows} embeddings of {keys} pictures; they belong to different states of the run. "
    "Repeat it."
)
NOT_NUMBERS = "{run}: its embeddings are not a finite table of numbers (shape {shape})."
TOO_FEW = "{run}: {n} embedded picture(s); a map needs three."

# --- Positive pairs ---
PAIRS_TITLE = "Positive pairs"
PAIRS_PURPOSE = (
    "Which pictures a policy really draws together, and what every augmentation does to them."
)
NO_PRETRAIN = "There is no pretraining run here whose cohort can be read."
PICK_PRETRAIN = "Which pretraining run?"
POLICY, EPOCH = "Policy", "Epoch"
POLICIES = {
    "simclr": "SimCLR: two views of one picture",
    "patient_id": "MICLe: two pictures of a patient",
    "study_id": "MICLe: two pictures of a study",
    "series_id": "MICLe: two pictures of a series",
}
OWN_POLICY = "{words} (as the run)"
OF_SLICES = "This run's task ({task}) draws slices in a row, not pairs; below is what a task of pairs would draw."
SINGLE = "Patients with one picture join as two views of it"
PAIR_LABEL = "Label to compare"
NO_LABEL = "none"
ANCHORS = "Twelve anchors"
ANCHORS_WHY = (
    "The first twelve of epoch {epoch}, seed {seed}, drawn and augmented by the code that trains; "
    "before normalisation."
)
PAIR_ALT = (
    "Pair {k} of patient {patient}: {what}. On the left the first view, on the right the second."
)
TWO_PICTURES, ONE_PICTURE = "two different pictures", "two views of one picture"
PAIR_WORDS = "Patient {patient}; {what}"
OF_LABEL = "label {one}"
AGREE, DIFFER, UNLABELLED = (
    "labels agree ({one})",
    "labels differ ({one}, {two})",
    "not both labelled",
)
SHARES = "What every policy draws in this epoch"
DRAWN, TWO_SHARE, AGREE_SHARE, AGREE_CHANCE = (
    "pairs",
    "two different pictures",
    "labels agree, of those with two",
    "by chance, two patients",
)
SHARES_ALT = (
    "A table of four policies: pairs drawn, share with two different pictures, share whose labels "
    "agree."
)
REFUSED = "{policy}: {why}"
PERCENT = "{n:.1f} %"
AUGMENT = "Every augmentation"
AUGMENT_WHY = "Every number is the far end of a range; the seed decides where in it a view falls."
ANCHOR, VIEW_SEED = "Picture, by its place among the training pictures", "Seed"
RESET = "Back to the run's settings"
BEFORE, AFTER = "stored", "all together"
BEFORE_ALT = "The stored picture {k} of the training pictures."
AFTER_ALT = (
    "The same picture with all augmentations, seed {seed}; mean grey {mean:.2f} after {before:.2f}."
)
ONLY_ALT = "The same picture with {name} alone, seed {seed}."
HISTOGRAM = "Histogram before and after"
GREY, SHARE = "stored grey, 0 to 1", "share of pixels, %"
HISTOGRAM_ALT = "Grey values of the picture: mean {before:.2f} before and {after:.2f} after."
YAML = "The section to copy"
NO_CHANGE = "(off)"
SETTING_NAMES = {
    "crop_area": "Crop: share of the area kept",
    "rotation_deg": "Rotation, degrees",
    "shift": "Shift, share of the side",
    "flip": "Mirror left and right",
    "brightness": "Brightness",
    "contrast": "Contrast",
    "gamma": "Gamma",
    "blur_sigma": "Blur, pixels",
    "blur_probability": "Share of views that are blurred",
    "cutout": "Cut-out, share of the side",
    "flip_vertical": "Mirror up and down",
    "elastic": "Elastic, share of the side",
    "elastic_probability": "Share of views that are bent",
    "equalise_probability": "Share of views with equalised grey levels",
    "saturation": "Saturation",
    "hue_deg": "Hue, degrees",
    "grey_probability": "Share of views without colour",
    "noise_std": "Noise, share of the range",
    "noise_probability": "Share of views with noise",
}
VOLUME_BLUR = "Whole volumes cannot be blurred; blur is left at 0."

# --- Cohort ---
COHORT_TITLE = "Cohort"
COHORT_PURPOSE = (
    "Who is in a run's cohort, who was trained and tested on, and whether the two were kept apart."
)
NO_COHORTS = "No run here has a cohort that is still where the run read it."
CHANGED_COHORT = "The cohort has changed since this run: its list of images is another one now."
CHANGED_SPLIT = "The split has changed since this run: what follows is the present one."
TOTAL = "{images} images of {patients} patients; {sites} site(s)."
FEW, SEVERAL = "<5", "5 or more"
COUNTS = "Counts"
LEVEL, PATIENTS, IMAGES = "level", "patients", "images"
COLUMNS = {
    "site": "Site",
    "manufacturer": "Maker",
    "model": "Scanner model",
    "year": "Year",
    "sex": "Sex",
    "age_band": "Age",
    "view": "View",
    "modality": "Modality",
}
ABSENT_LEVEL = "not stated"
MORE_LEVELS = "all others"
COUNT_ALT = "A table of patients and images by {what}."
PER_PATIENT = "Images per patient"
PER_PATIENT_COLUMN = "images of one patient"
PARTS = "Split"
PART = "part"
PARTS_ALT = "A table of patients and images in every part of the split."
NO_SPLIT = "This cohort has no split."
LEAKS = "Leak check"
LEAKS_WHY = (
    "Recomputed now from split.parquet, manifest.parquet, twins.parquet, links.parquet and the "
    "store. Each must be 0."
)
CHECK, FOUND, MEANING = "check", "found", "meaning"
NOT_LOOKED = "not looked for"
NO_LEAK = "No leak: all {n} checks give 0."
LEAKING = (
    "{n} of the checks found something: figures of this split flatter the model. Split anew, then "
    "train anew."
)
PARTLY = "{n} of the checks could not be made; the others give 0."
LEAK_ALT = "A table of {n} checks for patients or pictures on two sides of the split."
CHECKS = {
    "twice": ("patients in two parts", "One patient is trained and tested on."),
    "placeless": ("patients of the cohort without a part", "They joined after the split."),
    "copies": (
        "groups with identical stored pictures across parts",
        "One picture is trained and tested on.",
    ),
    "twins": (
        "near-identical pictures across parts",
        "Copies of one picture under two names (twins.parquet).",
    ),
    "links": (
        "suspected same persons across parts",
        "Equal names and birth dates (links.parquet).",
    ),
    "seen": (
        "validation or test patients that the encoder saw",
        "Digests in encoder.json or classifier.json.",
    ),
}
NO_FILE = "There is no {file}."
PREVALENCE = "Labels"
PICK_LABEL = "Which label?"
NO_LABELS = "This cohort has no labels."
CLASS, SHARE_OF_PART = "value", "share of the part's labelled images"
UNCERTAIN_VALUE = "uncertain"
PREVALENCE_ALT = "A table of every value of {label} in every part of the split."
MISSING = "Missing values"
COLUMN, MISSING_SHARE = "column", "images without it"
COMPLETE = "{n} columns have a value for every image."
MISSING_ALT = "A table of the share of images without a value, by column."
WHOLE_COHORT = "whole cohort"
