"""Every sentence a clinician's page shows: one place to translate, one place to have reviewed."""

BANNER = "Research use only. Not for diagnosis."
TITLE = "medssl review"
PICK = "Which evaluation?"
FINDING = "Which finding?"
NO_RUNS = (
    "There is no finished evaluation here yet. Your evaluation team makes one with: medssl evaluate "
    "MODEL --data COHORT --out RUNS/NAME"
)
ABOUT_LINE = "Model {model}, version {version}; images from {site}; report of {written}."

GROUP_REVIEW, GROUP_TEAM = "Review", "New hospital"
GROUP_RESEARCH, GROUP_SETTINGS = "Research", "Settings"
REVIEW_PAGES = (
    ("worklist", "Worklist"),
    ("case", "Case"),
    ("trust", "How far to trust it here"),
    ("mine", "My feedback"),
    ("about", "About this model"),
    ("tour", "Two-minute tour"),
)
TEAM_PAGES = (
    ("data_check", "Data check"),
    ("different", "Is this site different?"),
    ("results", "Results"),
    ("groups", "Groups"),
    ("threshold", "Calibration and threshold"),
    ("errors", "Errors"),
    ("download", "Report"),
)
RESEARCH_PAGES = (
    ("training", "Runs"),
    ("representation", "Representation"),
    ("pairs", "Positive pairs"),
    ("cohort_page", "Cohort"),
)
SETTINGS_PAGES = (("habits", "Habits and audit"),)

# --- who is here ---
SIGN_IN = "Sign in"
SIGN_IN_WHY = (
    "What you read and answer is kept under your name. Sign in with your hospital account."
)
SIGN_IN_BUTTON = "Sign in"
SIGN_OUT = "Sign out"
NO_ROLE = "Your account has no role here"
NO_ROLE_WHY = "Ask whoever runs this server to give your account one of these roles: {roles}."
WHO = "Who is reading?"
WHO_WHY = (
    "Give your initials or a reader number. Your answers are kept under it, apart from everybody "
    "else's. This is no password: the page is open to whoever sits at this machine."
)
WHO_NAME = "Initials or reader number"
WHO_BUTTON = "Start"
WHO_WRONG = (
    "Use letters, digits, blanks, dots or hyphens, 32 at most, and begin with a letter or digit."
)

# --- any page ---
TROUBLE = (
    "This page could not be drawn. What was saved before is not lost; your last step may not have been "
    "saved. Choose another page, or tell whoever runs this server to look at its log."
)
NOT_SAVED = (
    "Your last answer was NOT saved: the file of answers cannot be written (is the disk full?). Tell "
    "whoever runs this server, and answer again."
)
NO_JOURNAL = (
    "The file of answers cannot be opened or written, so nothing could be kept. Tell whoever runs this "
    "server: MEDSSL_FEEDBACK names its place; folder and disk must allow writing."
)
GONE = (
    "The evaluation that you were reading is being made anew, or was removed. What you saved is kept. "
    "Choose another evaluation, or wait until it is back."
)
CHOOSE_ANOTHER = "Choose another evaluation"
TOO_FAST = "That key came before the next picture was in sight, so it was not counted."

# --- worklist ---
WORKLIST_WHY = "Choose a case to read. The least certain come first."
WAITING = (
    "**{waiting}** of {total} cases wait for you. {unlike} look unlike the images the computer "
    "learnt from."
)
ALL_READ = (
    "You have seen all {total} cases. {unlike} look unlike the images the computer learnt from."
)
SHOW_ONLY = "Show only"
CHIPS = {
    "waiting": "not read yet",
    "unsure": "unsure (of those you have read)",
    "unlike": "unlike the images it learnt from",
    "differ": "my read differs from the computer's",
    "flagged": "flagged by me",
    "patient": "patients with several images",
}
ORDER = "Order"
ORDERS = {
    "uncertain": "least certain first",
    "chance": "highest chance first (of those you have read)",
    "unlike": "most unlike first",
    "code": "by code",
}
SEARCH = "Code begins with"
NOTHING = "No case fits this choice. Take a filter away to see more."
LIST_LABEL = "Cases. Arrows or J and K move, Enter opens."
LIST_PLACE = "Case {k} of {n}. Arrows or J and K move, Enter opens."
LIST_COLUMNS = ("Code", "Image", "When", "Answer", "Chance", "Remark", "My read")
HANDED_OVER, SHOW_ALL = "Only these: {words}.", "Show all cases"
START = "Start reading"
TAG_UNLIKE = "unlike training images"
HIDDEN = "hidden until read"
NOT_READ, READ_ONLY = "not read", "read"
LABEL_SLICE = "image {k}"
UNKNOWN_VIEW = "no view stated"
FIRST_DAY, LATER = "first study", "{days} days later"
YEAR_DAY = "{year}, {when}"

# --- answers in words ---
WORD = {
    "likely": "Likely {finding}",
    "not likely": "{finding} not likely",
    "unsure": "Unsure",
}
WORD_PRESENT = {"likely": "Likely present", "not likely": "Not likely", "unsure": "Unsure"}
PERCENT = "{chance} %"
PERCENT_RANGE = "{chance} % ({lower} to {upper})"
LESS_THAN_ONE, MORE_THAN_99 = "fewer than 1", "more than 99"

# --- case ---
CASE_WHY = "Read the image first. Then see what the computer says and how far to trust it here."
CASE_PLACE = "Case {k} of {n}"
IMAGE_OF = "image {k} of {n} for this patient"
NEXT, PREVIOUS, BACK = "Next case", "Previous case", "Worklist"
LAST_CASE = "This was the last case of your list."
FIRST_CASE = "This is the first case of your list."
NOT_FULL = "Shown as the computer sees it, {size} pixels wide: not for reading. {why}"
NO_PICTURE = "This image cannot be shown. {why}"
THIS_IMAGE = "This image"
OTHER_IMAGE = "Another image of this patient: {what}"
EARLIER, LATER_STUDY, SAME_STUDY = "{days} days earlier", "{days} days later", "same study"
NO_DAY = "date not known"
ALT = "Image {code}, {what}"
AT_DETECTOR = "Distances are measured at the detector, not in the patient."

# read first
READ_FIRST = "Your read first"
YOUR_READ = "Is {finding} there?"
YOUR_ANSWER = "What do you see?"
SCALE = (
    ("absent", 5, "Surely not"),
    ("absent", 3, "Probably not"),
    ("cannot tell", 1, "Can't tell"),
    ("present", 3, "Probably"),
    ("present", 5, "Surely"),
)
CANNOT_TELL = "Can't tell"
THEN_REVEAL = "Your answer is saved, and the computer's is shown."
SKIP = "Show without my read"
SKIPPED = "You looked without a read of your own."
READ_AS = "Your read: **{answer}** ({sure}), {time}."
SURE = {1: "a guess", 2: "not very sure", 3: "fairly sure", 4: "sure", 5: "certain"}

# the computer's answer
COMPUTER = "The computer's read"
DO_NOT_USE = (
    "At this hospital this model was found **not to be usable**. Do not rely on its answer."
)
CANNOT_SAY = "Nobody can say yet how far to trust this model at this hospital."
AFTER_ADJUSTMENT = "At this hospital this model is to be used only after adjustment."
CHECKED_HERE = (
    "Of 100 past cases at this hospital that got a like figure from it, {n} had {finding}{range}."
)
CHECKED_SOURCE = (
    "Of 100 cases at the hospitals it learnt from that got a like figure from it, {n} had "
    "{finding}{range}. This has not been checked here."
)
CHECKED_NOWHERE = (
    "This is the computer's own figure. It has not been checked against confirmed answers."
)
ABOUT = "about {n}"
RANGE = " (between {lower} and {upper})"
DOTS_ALT = "100 dots, {n} of them filled: the chance of {finding}."
LINE = "The line is drawn at {line} on the computer's own scale; this case has {score} and **{would}** be flagged."
WOULD, WOULD_NOT = "would", "would not"
UNSURE_CARD = {
    "both": "**Unsure.** Both answers remain possible for a case like this. Read as you normally would.",
    "neither": (
        "**Unsure.** Neither answer fits: the cases it was tested on at home do not look like this one to "
        "it. Read as you normally would."
    ),
    "line": "**Unsure.** This case lies close to the line. Read as you normally would.",
    "against": (
        "**Unsure.** Its own scale says one thing, and what became of such cases says another. Read as you "
        "normally would."
    ),
}
UNLIKE_CARD = (
    "**Unlike the images it learnt from.** It lies farther out than {percent} of 100 pictures it was "
    "tested on at home. {reasons}Read as you normally would."
)
UNLIKE_REASON = "What stands out: {what}. "
CHANGED = "Did it change your mind?"
YES, NO = "Yes", "No"

WHERE = "Where it looked"
WHERE_WHY = (
    "Brighter means: hiding this area changes the answer more. It does not outline disease, and it is "
    "often wrong for small findings."
)
WHERE_BUTTON = "Find where it looked"
WHERE_SWITCH = "Press H in the image to switch it on and off."
WHERE_CHANGE = (
    "Hiding the brightest area moves the computer's own figure {way} by {points} points of 100."
)
UP, DOWN = "up", "down"
WHERE_FLAT = "No single area matters to the answer."
WHERE_SAME = (
    "Checked: a model that has learnt nothing gives much the same picture here. Do not read anything "
    "into it."
)
WHERE_OWN = "Checked: a model that has learnt nothing gives a different picture."
WHERE_UNCHECKED = "It could not be compared with a model that has learnt nothing."
WHERE_NONE = (
    "Where it looked cannot be found: the model is not on this machine, or reads whole volumes."
)
WHERE_LEGEND = "where model {version} looked"
SIMILAR = "Similar past cases"
SIMILAR_WHY = "Cases it learnt from, of other patients, that look most alike to it."
SIMILAR_ONE = "{closeness} similar; confirmed: {label}"
SIMILAR_UNKNOWN = "{closeness} similar; no confirmed answer"
SIMILAR_COUNT = "{k} of {n} with a confirmed answer had {finding}."
SIMILAR_NONE = "The cases it learnt from are not on this machine."
SIMILAR_TEXT = "Their pictures did not travel; only their confirmed answers are here."
CLOSENESS = {"very": "Very", "fairly": "Fairly", "barely": "Barely"}
IN_WORDS = "In words"

# feedback
FEEDBACK = "What do you say?"
AGREE, DISAGREE, UNDECIDED = "Agree", "Disagree", "Can't tell"
VERDICTS = {"agree": AGREE, "disagree": DISAGREE, "unsure": UNDECIDED}
CORRECTED = "What is the right answer?"
REASONS_ASK = "Why?"
MISSED, FALSE_ALARM = "missed finding", "false alarm"
REASONS = (
    MISSED, FALSE_ALARM, "wrong place", "poor image", "wrong patient or view",
    "confirmed answer is wrong",
)  # fmt: skip
NOTE = "Note (no names, no numbers of patients)"
BOX = "Box on image {image}: columns {x0} to {x1}, rows {y0} to {y1}."
NO_BOX = "To mark the place, press O in the image and draw a box."
SAVE = "Save details"
SAVED = "Saved {time}: {verdict}."
UNDO = "Undo"
UNDONE = "Taken back."
SAVED_BEFORE = "Saved on the case before: {verdict}."
FLAG, UNFLAG = "Flag for later", "Take the flag away"
CONFIRMED = "Confirmed answer: **{label}**"
NOT_CONFIRMED = "There is no confirmed answer for this case."
AFTER_YOURS = "The confirmed answer is shown after you have said what you think."
REVIEW_TITLES = dict(REVIEW_PAGES)
READ_BEFORE = "First your read, then the computer's."
MARK_FLAG = "flagged"
SURELY, PROBABLY = "Surely", "Probably"
OWN_WORDS = {"present": "present", "absent": "absent", "cannot tell": "can't tell"}
SEXES = {"F": "female", "M": "male", "O": "other sex"}
WHERE_LOOKING = "Looking ..."
SENTENCE = "{words}: {chance}."
SENTENCE_LINE = {True: "It would be flagged.", False: "It would not be flagged."}
SENTENCE_LIKE = {
    True: "The image is unlike those it learnt from, so this may well be wrong.",
    False: "The image is not unlike those it learnt from.",
}
# What a figure of the picture says when it is smaller, and when it is larger, than nearly all at home.
FIGURES = {
    "brightness": ("darker overall", "brighter overall"),
    "contrast": ("less contrast", "more contrast"),
    "sharpness": ("more blurred", "sharper or noisier"),
    "dark_share": ("fewer black areas", "more black areas"),
    "bright_share": ("fewer white areas", "more white areas"),
    "border_brightness": ("a darker border", "a brighter border"),
    "centre_brightness": ("a darker middle", "a brighter middle"),
    "left_right_difference": ("left and right differ", "left and right differ"),
    "entropy": ("fewer grey levels", "more grey levels"),
    "padding": ("a squarer picture", "a narrower picture"),
}

# --- what the check at this hospital says ---
VERDICT_WORDS = {
    "do not use here": "Do not use it at this hospital.",
    "cannot tell": "It cannot be told yet whether it holds at this hospital.",
    "use after local adjustment": "To be used only after adjustment to this hospital.",
    "use as is": "At this hospital it holds.",
}
