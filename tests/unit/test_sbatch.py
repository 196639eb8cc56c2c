"""The batch script is run by a real bash, with the scheduler's commands played by small scripts."""

import shlex
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medssl import sbatch
from medssl.errors import RefusedError, UsageError
from medssl.sbatch import Wanted

WORDS = ["pretrain", "configs/c.yaml", "batch=64", "--data", "cohorts/a", "--out", "out"]
SRUN = """#!/bin/bash
printf '%s\\0' "$@" > srun.words
printf '%s' "$OMP_NUM_THREADS" > srun.threads
place="out${STAGE:+/$STAGE}/checkpoints"
if [ -n "$SAVES" ]; then mkdir -p "$place"; echo "$SAVES" > "$place/step-$SAVES.ckpt"; fi
exit "$SRUN_CODE"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo "JobId=$3 JobState=$STATE Reason=None"; exit 0; fi
printf '%s\\n' "$*" >> scontrol.words
exit "$SCONTROL_CODE"
"""


@pytest.fixture
def cluster(tmp_path):
    """A folder with a scheduler that plays along."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return tmp_path


def play(folder, text, code=0, saves="", state="RUNNING", scontrol=0, stage=""):
    (folder / "job.sh").write_bytes(text.encode(errors="surrogateescape"))
    told = {"SRUN_CODE": str(code), "SAVES": saves, "STATE": state, "SCONTROL_CODE": str(scontrol)}
    told |= {
        "STAGE": stage,
        "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
        "SLURM_JOB_ID": "4711",
        "SLURM_CPUS_PER_TASK": "6",
    }
    done = subprocess.run(["bash", "job.sh"], cwd=folder, env=told, capture_output=True, timeout=20)
    asked = folder / "scontrol.words"
    return done, asked.read_text().splitlines() if asked.exists() else []


def words_of(folder):
    return [w.decode() for w in (folder / "srun.words").read_bytes().split(b"\0")[:-1]]


def test_the_step_gets_the_command_and_goes_on_from_where_it_was(cluster):
    done, asked = play(cluster, sbatch.script(WORDS, Wanted()))
    assert (done.returncode, asked) == (0, [])
    options = ["--kill-on-bad-exit=1", "--cpus-per-task=6"]
    assert words_of(cluster) == [*options, "medssl", *WORDS, "--resume"]
    assert (cluster / "srun.threads").read_text() == "6"
    again = sbatch.script([*WORDS, "--resume"], Wanted())
    assert again == sbatch.script(WORDS, Wanted())


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12)
NASTY = st.sampled_from(
    ["a b", "'", '"', "$HOME", "`id`", "$(id)", "\\", "a\nb", "#SBATCH --x", "*", "~", "!", "{x}",
     "[0]=a", "", ";", "é", "-n", "views={a: 1}", "a\\'b", "%s", ")", "<(id)", "\t"]
)  # fmt: skip


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(TEXT | NASTY, max_size=5), TEXT | NASTY)
def test_every_word_survives_the_shell(cluster, middle, out):
    words = ["pretrain", *[w for w in middle if not w.startswith("--out")], f"--out={out}"]
    text = sbatch.script(words, Wanted())
    done, _ = play(cluster, text, code=0)
    assert (done.returncode, done.stderr) == (0, b"")
    assert words_of(cluster)[3:] == [*words, *(["--resume"] if "--resume" not in words else [])]
    parsed = subprocess.run(["bash", "-n", "job.sh"], cwd=cluster, capture_output=True)
    assert (parsed.returncode, parsed.stderr) == (0, b"")


def test_a_name_that_is_no_utf8_survives_too(cluster):
    out = b"caf\xe9".decode(errors="surrogateescape")
    place = cluster / "written.sh"
    sbatch.write(place, ["pretrain", "--out", out], Wanted())
    assert b"'caf\xe9'" in place.read_bytes()
    assert place.stat().st_mode & 0o100
    with pytest.raises(RefusedError, match="exists"):
        sbatch.write(place, WORDS, Wanted())


def test_saved_and_interrupted_is_requeued(cluster):
    done, asked = play(cluster, sbatch.script(WORDS, Wanted()), code=143, saves="10")
    assert (done.returncode, asked) == (0, ["requeue 4711"])
    assert b"requeued" in done.stdout
    # The next stretch has checkpoints before it starts, and saves another.
    done, asked = play(cluster, sbatch.script(WORDS, Wanted()), code=143, saves="20")
    assert (done.returncode, asked) == (0, ["requeue 4711"] * 2)


def test_a_chain_saves_in_its_stages(cluster):
    for saves, stage in (("10", "1-simclr"), ("20", "1-simclr"), ("5", "2-micle")):
        text = sbatch.script(WORDS, Wanted())
        done, asked = play(cluster, text, code=143, saves=saves, stage=stage)
        assert (done.returncode, asked[-1]) == (0, "requeue 4711")
    assert len(asked) == 3


@pytest.mark.parametrize("code", [1, 2, 4, 5, 6, 137])
def test_a_failure_is_not_requeued(cluster, code):
    done, asked = play(cluster, sbatch.script(WORDS, Wanted()), code=code, saves="10")
    assert (done.returncode, asked) == (code, [])
    assert b"not requeued" in done.stderr
    assert str(code).encode() in done.stderr


def test_no_progress_is_not_requeued_for_ever(cluster):
    """One rank fails, the others are ended politely: srun tells 143, and nothing was saved."""
    text = sbatch.script(WORDS, Wanted())
    done, asked = play(cluster, text, code=143)
    assert (done.returncode, asked) == (143, [])
    assert b"before anything was saved" in done.stderr
    play(cluster, text, code=143, saves="10")
    done, asked = play(cluster, text, code=143)
    assert (done.returncode, asked) == (143, ["requeue 4711"])


@pytest.mark.parametrize("state", ["CANCELLED", "PREEMPTED"])
def test_what_a_person_or_the_scheduler_ended_stays_ended(cluster, state):
    text = sbatch.script(WORDS, Wanted())
    done, asked = play(cluster, text, code=143, saves="10", state=state)
    assert (done.returncode, asked) == (143, [])


def test_a_refused_requeue_says_how_to_go_on(cluster):
    done, asked = play(cluster, sbatch.script(WORDS, Wanted()), 143, "10", scontrol=1)
    assert (done.returncode, asked) == (143, ["requeue 4711"])
    assert b"submit this script again" in done.stderr


def test_the_script_waits_for_its_steps_when_it_is_told_to_end(cluster):
    """SIGTERM to the whole job: the step saves, and the script still sees how it ended."""
    slow = "#!/bin/bash\ntouch begun\nwhile [ ! -e told ]; do sleep 0.02; done\nexit 5\n"
    (cluster / "bin" / "srun").write_text(slow)
    (cluster / "job.sh").write_text(sbatch.script(WORDS, Wanted()))
    told = {"PATH": f"{cluster / 'bin'}:/usr/bin:/bin", "SLURM_JOB_ID": "1"}
    job = subprocess.Popen(["bash", "job.sh"], cwd=cluster, env=told, stderr=subprocess.PIPE)
    while not (cluster / "begun").exists():
        assert job.poll() is None
    job.terminate()
    (cluster / "told").touch()
    assert b"exit code 5" in job.communicate(timeout=20)[1]


def asked_of(text):
    """The scheduler's reading: options before the first line that is no comment."""
    found = {}
    for line in text.splitlines()[1:]:
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH "):
            key, _, value = shlex.split(line)[1].partition("=")
            found[key] = value
    return found


def test_every_wish_reaches_the_scheduler():
    plain = asked_of(sbatch.script(WORDS, Wanted()))
    assert plain["--requeue"] == ""
    assert plain["--open-mode"] == "append"
    assert plain["--signal"] == "USR1@120"  # without B: it goes to the steps
    assert "--partition" not in plain
    wishes = {"nodes": 3, "gpus": 4, "cpus": 12, "time": "2-00", "partition": "gpu_a",
              "account": "p.7", "memory": "64G"}  # fmt: skip
    asked = asked_of(sbatch.script(WORDS, Wanted(**wishes)))
    expected = {"--nodes": "3", "--gpus-per-node": "4", "--ntasks-per-node": "4", "--mem": "64G",
                "--cpus-per-task": "12", "--time": "2-00", "--partition": "gpu_a", "--account": "p.7"}  # fmt: skip
    assert {k: asked.get(k) for k in expected} == expected
    without = asked_of(sbatch.script(WORDS, Wanted(gpus=0)))
    assert "--gpus-per-node" not in without
    assert without["--ntasks-per-node"] == "1"
    text = sbatch.script(WORDS, Wanted())
    assert "FILL IN" in text
    assert "##SBATCH --partition=FILL-IN" in text
    assert "module load" not in text


def test_a_name_from_a_folder_is_harmless_for_the_scheduler():
    text = sbatch.script(["pretrain", "--out", "runs/a b\n#SBATCH --account=x; é"], Wanted())
    assert asked_of(text)["--job-name"] == "medssl-a-b-SBATCH-account-x"
    assert "--account" not in asked_of(text)


def test_all_problems_at_once():
    wrong = Wanted(
        nodes=0, gpus=-1, cpus=0, time="a day", partition="x\n#SBATCH --y", memory="lots"
    )
    with pytest.raises(UsageError) as told:
        sbatch.script(["pretrain", "a\0"], wrong)
    assert len(told.value.problems) == 8
    assert all(k in str(told.value) for k in ("--nodes", "--gpus", "--time", "--out", "NUL"))
