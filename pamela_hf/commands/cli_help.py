"""What `pamela <command> --help` says above the arguments: what a command is for, and lines to copy."""

PREPARE = """\
Ratings in, a checked Parquet folder out, which datasets.load_dataset reads as typed splits.

  # the PAMELA release, straight from its zip
  pamela prepare-ratings PAMELA.zip runs/pamela

  # your own ratings: a CSV with image,score[,participant][,prompt][,age,gender,…], images beside it
  pamela prepare-ratings mine.csv runs/mine --rating-min 1 --rating-max 5

  # look at bad rows later instead of stopping at the first
  pamela prepare-ratings PAMELA.zip runs/pamela --quarantine bad_rows.jsonl

  >>> datasets.load_dataset("runs/pamela")["train"][0]             # typed ratings by split
  >>> datasets.load_dataset("runs/pamela", "images", split="all")  # each image once
"""

EMBED = """\
Run the frozen encoder once over every rated image and prompt.

  pamela embed --data runs/pamela                                    # SigLIP2 so400m, into runs/pamela
  pamela embed --data runs/pamela --config scripts/configs/pamela_small.yaml --dtype bfloat16

Writes embeddings.safetensors beside the ratings (or to --output). A run that was cut off goes on where it stopped;
run again after adding images, only these are embedded. Training, evaluation and scoring read this file.
"""

TRAIN = """\
Train a personal reward from ratings and their embeddings.

  pamela train --config scripts/configs/oasis.yaml --data FOLDER --output runs/mine seed=1
  pamela train --data mine=runs/mine --data lapis=runs/lapis --output runs/joint source_weights.lapis=0.3
  torchrun --nproc_per_node 2 scripts/train.py …      (on CPUs with ACCELERATE_USE_CPU=true in front)

Writes a folder that AutoModel.from_pretrained loads, with metrics.jsonl and checkpoints/. Killed? The same command
with --resume gives the very weights of an uninterrupted run. Any field of TrainingConfig is a key:
  without=[user]      an ablation: user, demographics, metadata, prompt, multiplicative, linear, pairwise, ordinal
  early_stopping=val_seen/user_srocc      keep the best epoch on a validation split
"""

EVALUATE = """\
Judge a model, person by person, on the splits of a ratings folder.

  pamela evaluate --model runs/demo/model --data runs/demo/ratings --output runs/demo/eval
  pamela evaluate --model DIR --data FOLDER --output OUT --splits val_seen,val_unseen --baselines consensus,ridge
  pamela evaluate --model DIR --data FOLDER --output OUT --few-shot 0,10,100    # heads of unseen people: pamela@k=10
  pamela evaluate … --repeats again.csv    # participant,image,score of second ratings: the noise ceiling

Prints a table and writes OUT/report.json and OUT/report.html. Every metric is computed for each person and averaged
over people; the intervals (95 %) resample people. The model is `pamela`; on *_seen splits stand also
`pamela@no_user` (it is not told who is asked) and `pamela@wrong_user` (it is told somebody else's name). What it
gains over the first is what knowing the person is worth; on *_unseen splits nobody is known.

Make choices on val_seen and val_unseen; read the test splits once, for the final claim.
"""

ABLATE = """\
What is each piece of the model worth, and how many ratings does it take? A grid of trainings that can be resumed.

  pamela ablate --data runs/pamela --config scripts/configs/pamela.yaml --output runs/ablation
  pamela ablate --data FOLDER --output OUT --variants full,no_user,no_demographics+metadata --seeds 0
  pamela ablate --data FOLDER --output OUT --variants full --users 25,50,100 --images 200,500 --ratings-per-user 10,30

Every variant is trained with every seed and judged on the val splits, person by person. Printed, and written to
OUT/ablation.json and OUT/ablation.html: means over seeds ± their sd, and each variant minus `full`, paired over the
same people with a 95 % interval. An interval clear of 0 is a difference other people would show too; one smaller than
the seeds' sd is still no reason to prefer anything.

Variants: full; no_user, no_demographics, no_metadata, no_prompt, no_multiplicative, no_pairwise, no_ordinal, … (any
piece of TrainingConfig.without, several with +); user_only (no demographics, metadata, prompt); image_only. What these
ratings don't have is skipped, and said. --users, --images and --ratings-per-user cut the train split to random parts,
each in the next larger one; val and test stay whole.

Killed, or more seeds wanted? The same command trains only what is missing: each cell lies in OUT/cells under a hash of
all that defines it. One process at a time works on OUT; a second is refused.
"""

FIT_USER = """\
A new person from a few ratings: a head of a few kilobytes, fitted in about a second on a CPU.

  pamela fit-user --model runs/demo/model --ratings mine.csv --name me --output runs/me --images photos
  pamela fit-user --model DIR --ratings mine.csv --name me --output runs/me --embeddings embeddings.safetensors
  pamela fit-user … --rating-min 0 --rating-max 100      # the scale they are on, if it isn't the model's
  pamela fit-user … --choices chosen.csv                 # which of two images, beside ratings or alone
  pamela fit-user … --choices chosen.csv --prompts p.csv # image,prompt: what they were made from

mine.csv has columns image,score (a score of true or false is a like), chosen.csv preferred,other: a path below --images
(default: beside the CSV), or an id of the embeddings file. What an image was made from (prompt) and its metadata, where
the model knows any (group,style,type), are columns of mine.csv or of --prompts. Then:
pamela score --model DIR --images photos --output scores.csv --head runs/me
No rating, image or demographic is in the head; pamela push head runs/me me/my-taste shares it, privately.
"""

SCORE = """\
Score a folder of images for one person, best first.

  pamela score --model runs/demo/model --images photos --output scores.csv --user p0001
  pamela score --model DIR --images photos --output scores.parquet --prompts prompts.csv
  pamela score --model DIR --images photos --output scores.csv --head runs/me

Columns image, score (expected rating), std. --prompts is a CSV with columns image,prompt (image: the file's name), and
the model's metadata, group,style,type, if you know it: what somebody likes may depend on what kind of image it is.
"""

PUSH = """\
Push to the Hub: one commit, scanned before, verified after, private unless you say otherwise.

  pamela push model runs/demo/model me/pamela --dry-run      # what would go?
  pamela push model runs/demo/model me/pamela --trained-on me/pamela-ratings
  pamela push ratings runs/pamela me/pamela-ratings --public
  pamela push pipeline DIR me/pamela-pipeline                # DIR: PamelaPromptPipeline.save_pretrained(DIR)

Only the files a model, ratings, head or pipeline consists of are sent, never what else lies in the folder. Participants
of a published release keep their ids there; your own raters appear as user_0001, …, and who is who stays in
~/.local/share/pamela_hf/pseudonyms.json. The access token is that of `hf auth login` or HF_TOKEN.
"""

OPTIMIZE_PROMPT = """\
Rewrite a prompt for one person: variants are written, rendered and scored, and the best is varied further.

  pamela optimize-prompt --pipeline procedural --reward runs/demo/model --user simulated_0003 \\
      --prompt "a cottage, photo" --output runs/cottage          # offline, with simulated images
  pamela optimize-prompt --config scripts/configs/flux2_llama.yaml --reward DIR --user NAME --prompt "…" --output DIR

Writes trace.jsonl (one line for every image), images/ and report.html. Killed? The same command goes on where it
stopped. Several --user, or --runs 5, are compared in a report.html above theirs. Fields of SearchConfig and arguments
of the pipeline are keys:
  num_iterations=5 num_candidates=20 num_seeds=4 strategy=ucb adherence_floor=0.5 max_images=400 max_seconds=3600
  height=1024 width=1024 num_inference_steps=28 guidance_scale=4.0
"""

STUDY = """\
Analyse a user study: people chose between two images, made in different ways.

  pamela study choices.csv --output runs/study                    # Elo, differences, agreement, power
  pamela study choices.csv --output runs/study --conditions self,other,none --ignore time,session
  pamela study --power --people 6,12,24 --prompts 18 --repeats 7   # before a study: what could it see?
  pamela study --simulate-paper --output runs/paper_study          # are the paper's Elo values recovered?

choices.csv has a row for each comparison: participant,left,right,choice, where left and right say how the two images
were made (self: optimized for the one who chooses; other: for somebody else; none; consensus; any method's name) and
choice is left, right or tie. Or participant,winner,loser[,tie]. Optional: prompt; left_image,right_image (ids); pair
(an id: a second row of the same person and pair is a retest).

Prints a table and writes OUT/report.json and OUT/report.html. Elo: 400 more is being chosen ten times as often. Where
the interval of a difference contains 0, the study leaves open which is better. Intervals resample people and suit as
few as four of them; they say nothing about other prompts. How much people and images differ (--person-sd, --image-sd)
decides what a study can see: they are assumptions until a study of yours has estimated them, which its report does.
Agreement needs pip install 'pamela_hf[study]'.
"""
