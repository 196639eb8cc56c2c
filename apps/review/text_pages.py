"""The sentences of the pages beside the cases: trust, my feedback, about the model, the tour."""

# --- how far to trust it here ---
TRUST_WHY = (
    "Four questions about this model at this hospital, answered on patients it has never seen."
)
CHECKED_ON = "Checked on **{patients}** patients with a confirmed answer of {sites}{when}."
CHECKED_WHEN = ", studies from {since} to {until}"
NOT_CHECKED = "There are no confirmed answers of this hospital, so nobody can say yet how well the model does here."
OF_HUNDRED = "{value} ({lower} to {upper})"
AT_HOME, HERE, ALL_HERE = "at home", "here", "all here"
CARD_RANK = "Does it rank sick above well?"
RANK = (
    "Shown one image with {finding} and one without, it picks the right one **{hundred}** times in 100. "
    "A coin would be right 50 times."
)
RANK_COIN = "That may be no better than a coin."
RANK_BACKWARDS = "That is worse than a coin: here its ranking is the wrong way round."
RANK_ALT = "How often of 100 it picks the right one:"
CARD_PERCENT = "Do its percentages mean what they say?"
PERCENTAGES = "On average it says {said} %, and **{had}** of 100 have {finding} here: {verdict}."
RIGHT, TOO_LOW, TOO_HIGH = "about right on average", "too low", "too high"
NOT_SURE = "too few to say"
SLOPE_BACKWARDS = "Higher percentages go with fewer findings here: do not read them as chances."
IT_SAYS, IT_IS = "it says", "here it is"
PERCENT_ALT = "Of 100 images, how many it expects and how many have it:"
CARD_GROUPS = "Is it fair to all groups?"
GROUPS_FEW = "No group has enough patients with and without the finding to say."
GROUPS_WORST = (
    "It does worst for {group}: of 100 with {finding} it finds **{hundred}**; of all here {all}. "
    "{patients} patients."
)
GROUPS_SURE = "The difference is more than chance."
GROUPS_UNSURE = "The difference may be chance."
GROUPS_ALT = "Of 100 with the finding, how many it finds:"
CARD_LIKE = "Are your images like the ones it learnt from?"
LIKE_NONE = "That could not be compared here."
LIKE_MOSTLY = "Mostly. **{hundred}** of 100 are unlike nearly all of those it was tested on at home; 1 is expected."
LIKE_OFTEN = (
    "Often not. **{hundred}** of 100 are unlike nearly all of those it was tested on at home; 1 is "
    "expected."
)
LIKE_DIFFERENT = "As a whole they differ from those of the other hospital by more than chance."
LIKE_ALT = "Of 100 images, how many are unlike:"
EXPECTED = "expected"
CARD_NONE = "There are no confirmed answers here to say."
CARD_ALIKE = "All confirmed answers here are the same, so this cannot be told."
CORRECTED_THERE = "The page of a case shows the chance as corrected by what happened here."
GROUPS_LEAVES = (
    "It raises most false alarms for {group}: of 100 without {finding} it leaves **{hundred}** alone; of all "
    "here {all}. {patients} patients."
)
GROUP_WORDS = {
    "quality": "image quality",
    "site": "hospital",
    "manufacturer": "maker",
    "age_band": "age",
}
MISSES = "What it misses"
MISSES_OF = "Of 100 images with {finding} it misses **{hundred}**. Those it was surest about:"
OPEN_CASE = "Open"
FULL_REPORT = "The full report (for the evaluation team)"

# --- my feedback ---
MINE_WHY = "What you read and said. Nobody else sees it before their own read of the same case."
MINE_NONE = "You have not read a case yet. Your answers will be listed here."
MINE_ENTRIES = "Your cases: {n}"
MINE_ELSEWHERE = "{n} more belong to other evaluations of this model; the export has them."
MINE_ALT = "Your reads, the computer's, and what you said of it"
MINE_EDIT = "Change an entry"
COL_CODE, COL_OWN, COL_COMPUTER, COL_VERDICT = "code", "my read", "computer", "I say"
COL_CHANGED, COL_WHY, COL_NOTE, COL_FLAG, COL_WHEN = (
    "changed my mind",
    "why",
    "note",
    "flag",
    "when (UTC)",
)
COLLEAGUES = "You and your colleagues"
COLLEAGUES_FEW = (
    "{n} reads by others of cases that you have read; from {least} on, agreement is shown."
)
AGREED = "You gave the same answer in **{same} of {n}** reads."
KAPPA = "Beyond chance, that is {word} agreement."
KAPPA_NONE = "All answers are the same, so agreement beyond chance cannot be told."
KAPPA_WORDS = (
    (0.8, "very good"), (0.6, "good"), (0.4, "moderate"), (0.2, "fair"), (0.0, "poor"), (-2.0, "no"),
)  # fmt: skip
DISCUSS = "Cases to discuss, where you and a colleague differ: {n}"
EXPORT = "Export"
EXPORT_ALL = "All readers (without sign-in: of cases that you have read)"
EXPORT_PREVIEW = "Rows: {n}. The first of them:"
EXPORT_CSV, EXPORT_JSON = "CSV", "JSON"
EXPORT_WHAT = "Codes only, no names. Notes are exported as they were typed: read them before you send the file on."

# --- about ---
ABOUT_WHY = "What this model was made for, what it learnt from, and where it fails."
MADE_FOR, LEARNT_FROM, TESTED_ON = "Made for", "Learnt from", "Tested on"
FAILURES, VERSIONS = "Known failures", "Versions"
MADE_FOR_WORDS = (
    "Says how likely {finding} is on one image ({image}). It sees the image only: no history, no "
    "report."
)
IMAGES_LIKE = "like those it learnt from"
BY_A_PERSON = (
    "Intended use, users, and uses that are ruled out are to be written by a person who answers for them; "
    "the file CARD.md has the places."
)
LEARNT_WORDS = "{patients} patients with {images} images of {sites}."
TESTED_HOME = (
    "At home ({sites}), {patients} patients it had not seen: it picked the right one of two images "
    "{hundred} times in 100."
)
TESTED_HERE = "Here ({sites}), {patients} patients: it picked the right one of two images {hundred} times in 100."
FAILURES_WORDS = "What the check at this hospital found that is not disease:"
SEE_ERRORS = "See what it misses"
FAIL_TONE = (
    "From the grey tones alone, without seeing where anything is, the right one of two images is picked "
    "{hundred} times in 100. A radiologist should say whether that is disease, or exposure and processing."
)
FAIL_CENTRE = (
    "With the middle of every image hidden it still picks the right one {hundred} times in 100 at home. "
    "It may go by what lies at the border."
)
FAIL_SITE = "It can tell from which hospital an image comes ({hundred} times in 100)."
FAIL_NONE = "Nothing of that kind was found. That is no proof that there is nothing."
V_WHAT, V_WHICH = "what", "which"
V_MODEL, V_SOFTWARE, V_REPORT = (
    "model (first 16 digits of its fingerprint)",
    "software",
    "report written",
)
WHO_TO_CALL = "Questions: whoever runs this server. Write their name and number on the model card."
CARD = "Model card (CARD.md)"

# --- tour ---
TOUR_WHY = "A few cases of this hospital. Say to yourself what you see, then look at the computer's answer."
TOUR_NONE = (
    "There is no case here to show: the tour needs confirmed answers, or images that look unusual."
)
TOUR_PLACE = "Stop {k} of {n}"
TOUR_SHOW, TOUR_ON = "Show the computer's answer", "Go on"
TOUR_QUESTION = {
    "right": "**Is {finding} there?** What would you want to know before you trust the computer's answer?",
    "alarm": "**Look closely.** Is {finding} there? How sure are you?",
    "miss": "**Look closely.** Is {finding} there? How sure are you?",
    "unlike": "**Something is different here.** What is unusual about this image?",
}
TOUR_LESSON = {
    "right": (
        "It agrees with the confirmed answer. How many of a hundred such answers are right stands on the "
        "page about trust. One case proves nothing."
    ),
    "alarm": (
        "**It is sure, and wrong: a false alarm.** A high percentage is no proof, and a bright area on the "
        "map is none either. What would have warned you? Your own read, made first."
    ),
    "miss": (
        "**It is sure, and wrong: it missed the finding.** A low percentage is no proof that nothing is "
        "there. What would have warned you? Your own read, made first."
    ),
    "unlike": (
        "It lies farther out than nearly all images the model was tested on. Its answer rests on little "
        "here. Read as you normally would."
    ),
}
TOUR_END = "That was the tour. You read first; the computer answers second; what you say is kept."
