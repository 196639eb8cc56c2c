"""Every sentence of the settings page and of coming and going."""

# --- who is here ---
HERE = "Reading as {name}"
LOCAL_NAME = "No password guards this name; it only keeps answers apart."
CHANGE_READER = "Change reader"
DOOR_SHUT = "Nobody can sign in at the moment"
DOOR_SHUT_WHY = (
    "This server asks everybody to sign in, but the file that tells where is missing or damaged. "
    "Ask whoever runs it to look at its --sign-in file and to start it again."
)
STALE = "Please sign in again"
STALE_WHY = "Your last sign-in was too long ago. Nothing you answered is lost."

# --- habits ---
TITLE = "Habits and audit"
PURPOSE = "Set how you like to work, look up the keys, and see what was recorded of your sittings."
HABITS_TITLE = "Your habits"
DRAG = "Dragging with the left button"
DRAGS = {
    "window": "changes brightness and contrast",
    "scroll": "moves through the images",
    "pan": "moves the picture",
}
READ_FIRST = "Read first: my own answer comes before the computer's"
READ_FIRST_WHY = (
    "Readers follow wrong advice too, with or without an explanation beside it. With this on, the "
    "computer's answer stays hidden until yours is kept. Both choices are remembered under your name."
)

KEYS_TITLE = "Keys"
KEYS_WHERE = "They work while the picture has the focus: click it, or reach it with Tab."
KEYS_ALT = "Keys of the picture and what each of them does."
KEY, DOES = "Key", "What it does"
KEYS = (
    ("Up, Down, wheel", "previous, next image of the stack"),
    ("Page Up, Page Down", "a tenth of the stack up, down"),
    ("Home, End", "first, last image"),
    ("1 to 9", "brightness and contrast presets"),
    (
        "W, T, P",
        "dragging changes brightness and contrast, moves through the images, moves the picture",
    ),
    ("Shift + arrows", "move the picture"),
    ("+, -, Ctrl + wheel", "closer, farther"),
    ("0", "one picture point per screen point"),
    ("R", "everything as at first"),
    ("G, I", "automatic brightness, invert"),
    ("M, O, K", "measure, draw a box, brightness from a box"),
    ("H", "where it looked, on and off"),
    ("V, S, X", "three planes, side by side, swap sides"),
    ("Y, Z", "move both sides together, blink between them"),
    ("A, D, U", "agree, disagree, can't tell"),
    ("Enter", "show the computer's answer"),
    ("F", "flag this case"),
    ("N, B, L", "next case, case before, back to the list"),
    ("Esc", "remove marks, leave a tool"),
    ("?", "all keys, beside the picture"),
)

SIGHT_TITLE = "Light, size and movement"
SIGHT = (
    "The pages are dark because reading rooms are. They stay usable at 200 % zoom (Ctrl and +). Nothing "
    "moves by itself where your system asks for less movement."
)

# --- audit ---
AUDIT_TITLE = "What was recorded"
AUDIT_WHY = (
    "Every sign-in, case opened, answer, look at the computer's answer, change of mind, undo and "
    "export, with its time. Rows are only ever added; nothing is changed or removed."
)
YOUR_CODE = "You are recorded as {code}"
EVERYBODY = "Show all readers"
EVERYBODY_WHY = (
    "Of other readers you see what they did and when, not what they answered, so that a second "
    "reader stays blind to the first."
)
HIDDEN = "not shown"
YES, NO = "yes", "no"
AT, READER, EVENT, CASE, DETAILS = "Time (UTC)", "Reader", "What", "Case", "Details"
EVENTS = {
    "opened": "Case opened",
    "read": "Own answer kept",
    "revealed": "Computer's answer shown",
    "changed": "Changed mind or not",
    "feedback": "Feedback",
    "flag": "Flag set or removed",
    "signed in": "Session started",
    "exported": "Export",
    "undo": "Undo",
    "habit": "Habit set",
}
AUDIT_ALT = "What was recorded: {count} rows, newest first, each with time, reader, event and case."
DOWNLOAD = "Download as CSV"
