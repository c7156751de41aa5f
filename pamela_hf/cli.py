"""`pamela <command>`: the commands of `scripts/`, for whoever installed the package with pip.

Each command's arguments are declared here once; `scripts/<command>.py` calls the same. Heavy imports wait until the
arguments are in order, so that `--help` answers at once.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from .commands import app
from .commands.cli_help import ABLATE, EMBED, EVALUATE, FIT_USER, OPTIMIZE_PROMPT, PREPARE, PUSH, SCORE, STUDY, TRAIN

PROMPTS_HELP = "columns image and prompt, group, …: what each image was made from, and its metadata"


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[int]:
    return [int(number) for number in names(text)]


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too small; at least 1 is needed.")
    return number


def _prepare_arguments(parser: argparse.ArgumentParser) -> None:
    from .ratings.sources import source_names
    from .ratings.table import SPLIT_BY

    add = parser.add_argument
    known = ", ".join(source_names())
    add("source", help="folder or zip in the released layout, CSV, prepared folder or Hub dataset id")
    add("out", help="folder to write: ratings/, images/, README.md; absent until it is complete")
    add("--source", dest="layout", metavar="NAME", help=f"how to read it, if that isn't plain to see: {known}")
    add("--name", help="what to call these ratings and their scale (default: the source's own name)")
    add("--rating-min", type=float, metavar="A", help="lowest possible rating (default: train's lowest)")
    add("--rating-max", type=float, metavar="B", help="highest one; both are integers")
    add("--quarantine", metavar="FILE", help="set bad rows aside in FILE (JSON lines) and go on")
    split_help = "how ratings that come without splits are divided: unseen people and unseen images (default), "
    split_help += "unseen images only, or not at all"
    add("--split-by", choices=SPLIT_BY, default=SPLIT_BY[0], help=split_help)
    add("--seed", type=int, default=0, help="of that division (0)")
    add("--images", metavar="FOLDER", help="CSV: where its image paths start (default: beside the CSV)")
    add("--participant", metavar="ID", help="CSV without a column participant: who rated (default: me)")
    more = "further option of a source, repeatable: test_users=FILE (para), question=NAME (argilla), …"
    add("--option", action="append", default=[], metavar="KEY=VALUE", help=more)
    add("--overwrite", action="store_true", help="replace OUT if it is a prepared folder")
    add("--quiet", action="store_true", help="no progress bars")


def _prepare(args: argparse.Namespace) -> None:
    from .ratings.preparation import prepare

    ratings = prepare(
        args.source,
        args.out,
        source=args.layout,
        name=args.name,
        rating_min=args.rating_min,
        rating_max=args.rating_max,
        quarantine=args.quarantine,
        split_by=args.split_by,
        seed=args.seed,
        overwrite=args.overwrite,
        progress=not args.quiet,
        **{key: value for key in ("images", "participant") if (value := getattr(args, key)) is not None},
        **dict(option.partition("=")[::2] for option in args.option),
    )
    for split, table in ratings.splits.items():
        people, images = table.participant_id.nunique(), table.image_id.nunique()
        print(f"{split:15} {len(table):>9,} ratings  {people:>6,} people  {images:>7,} images")
    print(f"written to {args.out}")


def _embed_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="SOURCE", help="ratings with images: folder, zip, CSV, prepared or Hub id")
    encoder_help = "Hub id or folder of an image–text AutoModel (google/siglip2-so400m-patch14-384)"
    add("--encoder", metavar="ID", help=encoder_help)
    add("--config", metavar="YAML", help="a training configuration whose `encoder` is used")
    add("--revision", help="commit or tag of the encoder; pin it for work you publish")
    add("--output", metavar="FILE", help="default: embeddings.safetensors in the --data folder")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32); halved if memory runs out")
    add("--device", help="cuda, mps, cpu (default: the first of these there is)")
    add("--dtype", default="float32", choices=("float32", "bfloat16", "float16"), help="precision of the encoder")


def _embed(args: argparse.Namespace) -> None:
    from .embeddings import EMBEDDINGS_NAME
    from .encoder import DEFAULT_ENCODER, FrozenEncoder, compute_embeddings
    from .ratings.builder import load_ratings
    from .training.config import TrainingConfig

    data = load_ratings(args.data)
    if data.open_image is None:
        raise ValueError(f"--data {args.data} has no images to embed. Give the ratings with their images/.")
    if args.output is None and not Path(args.data).is_dir():
        raise ValueError(f"--data {args.data} is no folder to write to; say where with --output FILE.")
    output = Path(args.output) if args.output else Path(args.data) / EMBEDDINGS_NAME
    named = args.encoder or (TrainingConfig.read(args.config).encoder if args.config else None)
    encoder = FrozenEncoder(named or DEFAULT_ENCODER, args.revision, args.device, args.dtype)
    images = data.images()
    prompts = [p if isinstance(p, str) else None for p in images["prompt"]]
    ids = images["image_id"].astype(str).tolist()
    made = compute_embeddings(encoder, ids, data.open_image, prompts, output, args.batch_size)
    text = 0 if made.text_embeds is None else made.text_embeds.shape[1]
    print(f"{len(made):,} images ({made.image_embeds.shape[1]} image and {text} prompt features) in {output}")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--config", metavar="YAML", help="any of TrainingConfig's fields; scripts/configs has some")
    data_help = "ratings to learn from; given several times, all are trained on jointly, each on its own scale"
    add("--data", required=True, action="append", metavar="[NAME=]SOURCE", help=data_help)
    add("--output", required=True, metavar="DIR", help="folder for the model, metrics.jsonl and checkpoints/")
    add("--encoder", metavar="FOLDER", help="local folder of the encoder of the features; goes with the model")
    add("--resume", action="store_true", help="go on from the newest whole checkpoint in --output")
    add("--rating-min", type=int, metavar="A", help="lowest rating (default: the smallest in the train split)")
    add("--rating-max", type=int, metavar="B", help="highest rating")
    add("overrides", nargs="*", metavar="key=value", help="on top of --config: seed=1 epochs=4 model.hidden_size=32 …")


def _train(args: argparse.Namespace) -> None:
    from .training.config import TrainingConfig
    from .training.train import load_sources, train

    config = TrainingConfig.read(args.config, args.overrides)
    data, embeddings = load_sources(args.data, rating_min=args.rating_min, rating_max=args.rating_max)
    train(config, data, embeddings, args.output, encoder=args.encoder, resume=args.resume)
    print(f"Model written to {args.output}")


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    from .baselines import available_baselines

    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="folder or Hub id of a trained model")
    add("--data", required=True, metavar="FOLDER", help="ratings: folder or zip as released, prepared folder or Hub id")
    add("--output", required=True, metavar="OUT", type=Path, help="folder for report.json and report.html")
    add("--embeddings", metavar="FILE", help="features of the images; default: embeddings.safetensors in --data")
    rivals = f"rivals to judge beside it, fitted on the train split: {', '.join(available_baselines())}"
    add("--baselines", type=names, default=[], metavar="A,B", help=rivals)
    add("--splits", type=names, metavar="A,B", help="default: every val and test split there is")
    add("--bootstrap", type=int, default=1000, metavar="N", help="draws for intervals (1000); 0: none")
    add("--seed", type=int, default=0, help="of the draws and of the coverage's randomization (0)")
    few_help = "fit unseen people on so many of their own ratings (support_unseen, or some of the split's): pamela@k=10"
    add("--few-shot", type=numbers, default=[], metavar="K,K", help=few_help)
    add("--draws", type=int, default=3, help="how often these ratings are drawn anew (3)")
    select_help = "draw them at random, or ask what would teach most"
    add("--select", choices=("random", "active"), default="random", help=select_help)
    repeats_help = "CSV participant,image,score of second ratings: how well do people agree with themselves?"
    add("--repeats", metavar="CSV", help=repeats_help)


def _evaluate(args: argparse.Namespace) -> None:
    from .evaluation.evaluate import run
    from .evaluation.table import metric_table

    options = {k: v for k, v in vars(args).items() if k not in ("command", "run")}
    print(metric_table(run(**options)))
    print(f"\nWrote {args.output / 'report.json'} and {args.output / 'report.html'}.")


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", required=True, metavar="FOLDER", help="ratings with embeddings, as for train")
    add("--output", required=True, metavar="OUT", help="folder of the grid; the same command again resumes there")
    add("--config", metavar="YAML", help="of all trainings; scripts/configs has some")
    add("--variants", type=names, metavar="A,B", help="default: full, one without each piece, user_only, image_only")
    add("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N", help="each variant is trained with each (0,1,2)")
    add("--users", type=numbers, default=[], metavar="N,N", help="learning curve: so many people of the training")
    add("--images", type=numbers, default=[], metavar="N,N", help="learning curve: so many images")
    rated_help = "learning curve: at most so many ratings of each person"
    add("--ratings-per-user", type=numbers, default=[], metavar="N,N", help=rated_help)
    splits_help = "to judge on (every val split there is); name test splits for the final claim, not to choose"
    add("--splits", type=names, metavar="A,B", help=splits_help)
    add("--keep-models", action="store_true", help="leave every cell's model in OUT/models")
    add("overrides", nargs="*", metavar="key=value", help="on top of --config")


def _ablate(args: argparse.Namespace) -> None:
    from .experiments.ablation import VARIANTS, run
    from .experiments.ablation_page import ablation_table
    from .training.config import TrainingConfig

    given = ("data", "output", "seeds", "users", "images", "ratings_per_user", "splits", "keep_models")
    options = {name: getattr(args, name) for name in given}
    config = TrainingConfig.read(args.config, args.overrides)
    print(ablation_table(run(config=config, variants=args.variants or VARIANTS, **options)))
    print(f"\nWrote {Path(args.output) / 'ablation.json'} and {Path(args.output) / 'ablation.html'}.")


def _fit_user_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="folder or Hub id of a trained model, the head's base")
    add("--ratings", metavar="CSV", help="columns image,score[,prompt,group,…]; this, --choices, or both")
    add("--choices", metavar="CSV", help="columns preferred,other: images chosen over others")
    add("--prompts", metavar="CSV", help=PROMPTS_HELP)
    add("--name", required=True, help="what to call the person; no name of a trained participant")
    add("--output", required=True, metavar="HEAD_DIR", help="folder for the head; an older head there is replaced")
    features = parser.add_mutually_exclusive_group()
    features.add_argument("--images", metavar="FOLDER", help="where the CSV's paths start (default: beside the CSV)")
    features.add_argument("--embeddings", metavar="FILE", help="embeddings.safetensors; then image is an id of it")
    add("--rating-min", type=float, metavar="A", help="lowest possible score (default: the model's own scale)")
    add("--rating-max", type=float, metavar="B", help="highest possible score")
    add("--by-rank", action="store_true", help="only the order of the scores counts")
    add("--scale", metavar="NAME", help="rating scale of the model that the scores are on (default: the model's)")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help="cuda, mps, cpu (default: the first of these there is)")


def _fit_user(args: argparse.Namespace) -> None:
    from .embeddings import load_embeddings
    from .heads.csv import read_choices_csv, read_prompts_csv, read_ratings_csv
    from .heads.head import UserHead
    from .heads.summary import in_words
    from .scoring import PamelaScorer

    ends = (args.rating_min, args.rating_max)
    if (ends[0] is None) != (ends[1] is None) or (args.by_rank and ends[0] is not None):
        raise ValueError("Give both --rating-min and --rating-max, or --by-rank, or none of them (the model's scale).")
    if not args.ratings and not args.choices:
        raise ValueError("Give --ratings CSV, --choices CSV, or both: a head is fitted to what somebody said.")
    is_path = args.embeddings is None
    scorer = PamelaScorer.from_pretrained(args.model, device=args.device)
    ratings, prompts, metadata = [], {}, {}
    if args.ratings:
        ratings, prompts, metadata = read_ratings_csv(args.ratings, args.images, is_path, scorer.config.metadata)
    if args.prompts:
        more_prompts, more_metadata = read_prompts_csv(args.prompts, args.images, is_path, scorer.config.metadata)
        prompts, metadata = {**prompts, **more_prompts}, {**metadata, **more_metadata}
    choices = read_choices_csv(args.choices, args.images, is_path) if args.choices else []
    head = UserHead.fit(
        scorer,
        ratings,
        name=args.name,
        choices=choices,
        rating_range="rank" if args.by_rank else None if ends[0] is None else ends,
        scale=args.scale,
        embeddings=load_embeddings(args.embeddings) if args.embeddings else None,
        prompts=prompts,
        metadata=metadata,
        batch_size=args.batch_size,
    )
    head.save(args.output)
    print("\n".join(in_words(head.about)))
    print(f"Head {head.name!r} written to {args.output}")


def _score_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="folder or Hub id of a trained model")
    add("--images", required=True, metavar="FOLDER", help="folder of PNG, JPEG or WebP images, read recursively")
    add("--output", required=True, metavar="FILE", type=Path, help="a .csv or .parquet file")
    person = parser.add_mutually_exclusive_group()
    person.add_argument("--user", metavar="NAME", help="a participant it was trained on; default: everyone's taste")
    person.add_argument("--head", metavar="HEAD", help="folder or Hub id of a head: somebody it was fitted for")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", help="what all images were made from")
    prompt.add_argument("--prompts", metavar="CSV", help=PROMPTS_HELP)
    add("--scale", metavar="NAME", help="rating scale of the scores (default: the model's)")
    add("--batch-size", type=positive, default=32, help="images a forward pass (32)")
    add("--device", help="cuda, mps, cpu (default: the first of these there is)")


def _score(args: argparse.Namespace) -> None:
    from .scoring import PamelaScorer, score_folder

    if args.output.suffix not in (".csv", ".parquet"):
        raise ValueError(f"--output {args.output} must end in .csv or .parquet.")
    scorer, user = PamelaScorer.from_pretrained(args.model, device=args.device), args.user
    if args.head:
        from .heads.head import UserHead

        user = UserHead.from_pretrained(args.head, scorer)
    table = score_folder(
        scorer,
        args.images,
        args.output,
        prompts=args.prompt if args.prompt is not None else args.prompts and Path(args.prompts),
        user=user,
        scale=args.scale,
        batch_size=args.batch_size,
    )
    print(table.head(10).to_string(index=False))
    print(f"{len(table):,} images scored, best first, in {args.output}")


def _push_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("kind", choices=["model", "ratings", "head", "pipeline"], help="what the folder holds")
    add("folder", metavar="DIR", type=Path, help="what train, prepare-ratings, fit-user or save_pretrained wrote")
    add("repo", metavar="REPO", help="owner/name on the Hub; made if it does not exist")
    add("--public", action="store_true", help="everybody may see it (default: private)")
    add("--dry-run", action="store_true", help="scan and list what would go; send nothing")
    add("--report", metavar="FILE", help="of a model: report.json of evaluate (default: the one beside it)")
    add("--data", metavar="FOLDER", help="of a model: ratings it is tested on; adds figures by demographic group")
    add("--trained-on", type=names, default=[], metavar="A,B", help="of a model: its ratings on the Hub")
    add("--license", metavar="ID", help="such as cc-by-4.0 (default: that of the ratings, of a pipeline: other)")
    add("--keep-ids", action="store_true", help="your own raters agreed to be published under the names they have")
    add("--with-demographics", action="store_true", help="of ratings: … and with age, gender and nationality")


def _push(args: argparse.Namespace) -> None:
    from .publishing.repositories import push_head, push_model, push_ratings

    options = {"private": not args.public, "dry_run": args.dry_run}
    if args.kind == "model":
        options |= {"report": args.report, "trained_on": args.trained_on, "data": args.data}
    if args.kind != "head":
        options |= {"license": args.license, "keep_ids": args.keep_ids}
    if args.kind == "ratings":
        options["with_demographics"] = args.with_demographics
    if args.kind == "pipeline":  # needs diffusers, which the others don't
        from .publishing.pipeline import push_pipeline as push
    else:
        push = {"model": push_model, "ratings": push_ratings, "head": push_head}[args.kind]
    result = push(args.folder, args.repo, **options)
    for name in result.files:
        print(f"{result.sizes[name]:>13,} bytes  {name}")
    print(f"{sum(result.sizes.values()):>13,} bytes in {len(result.files)} files")
    if result.left_out:
        print(f"Left out: {', '.join(result.left_out)}")
    if args.dry_run:
        print(f"Nothing was sent. Without --dry-run, {args.repo} would become exactly this.")
    else:
        print(f"{'Private' if result.private else 'Public'}: {result.url} at {result.commit}")


def _optimize_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    from .refiners import available_refiners

    add = parser.add_argument
    add("--prompt", required=True, metavar="TEXT", help="what the image shows, without a taste")
    add("--output", required=True, metavar="DIR", help="folder of the run; the same command again resumes there")
    person = parser.add_mutually_exclusive_group()
    user_help = "a participant the reward was trained on; several times: compared (default: everyone's taste)"
    person.add_argument("--user", action="append", metavar="NAME", help=user_help)
    person.add_argument("--head", action="append", metavar="HEAD", help="folder of a head: somebody it was fitted for")
    add("--config", metavar="YAML", help="pipeline, reward, refiner, … and any key=value; see scripts/configs")
    add("--pipeline", metavar="P", help="Hub id or folder of a text-to-image pipeline, or 'procedural' (simulated)")
    add("--reward", metavar="DIR", help="folder or Hub id of a trained reward")
    add("--refiner", metavar="R", help=f"who writes variants: {', '.join(available_refiners())} (vocabulary)")
    model_help = "chat model for transformers_chat, or the model a server offers"
    add("--refiner-model", metavar="ID", help=model_help)
    add("--refiner-url", metavar="URL", help="endpoint: an OpenAI-style server (default: Inference Providers)")
    add("--judge", metavar="DIR", help="another reward that is asked about the winner only, never optimized")
    add("--seed", type=int, help="of the first image and of every choice (0)")
    add("--runs", type=int, help="independent runs, to see whether they agree (1)")
    add("--device", help="cuda, mps, cpu (default: the first of these there is)")
    add("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of pipeline and chat model (float32)")
    offload_help = "keep on the accelerator one model, or one layer, at a time (none)"
    add("--offload", choices=("none", "model", "sequential"), help=offload_help)
    add("overrides", nargs="*", metavar="key=value", help="on top of --config")


def _optimize_prompt(args: argparse.Namespace) -> None:
    from .prompts.loading import SETUP, load_options, load_prompt_pipeline, load_users
    from .prompts.runs import optimize_prompt

    setup, options = load_options(
        args.config, args.overrides, {key: getattr(args, key) for key in (*SETUP, "seed", "runs")}
    )
    pipe, refiner, judge = load_prompt_pipeline(**setup)
    users = load_users(args.user, args.head, pipe.reward_model)
    done = optimize_prompt(pipe, args.prompt, users, args.output, refiner=refiner, judge=judge, **options)
    for name, runs in zip(done.summary["people"], done.outputs):
        for out in runs:
            before, after = (sum(s) / len(s) for s in (out.baseline_scores, out.scores))
            print(f"{name}: predicted rating {before:.2f} -> {after:.2f}  {out.prompts[0]}")
    print(f"Look at {Path(args.output) / 'report.html'}")


def _study_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("choices", nargs="?", metavar="CSV", help="a row for each comparison, see above")
    add("--output", metavar="OUT", type=Path, help="folder for report.json and report.html")
    add("--conditions", type=names, metavar="A,B", help="only comparisons between these (default: all)")
    add("--ignore", type=names, default=[], metavar="A,B", help="columns of the CSV to skip")
    add("--bootstrap", type=int, default=1000, metavar="N", help="draws of people for intervals (1000); 0: none")
    add("--seed", type=int, default=0, help="of the draws and simulations (0)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--power", action="store_true", help="no CSV: what could a study see?")
    paper_help = "no CSV: simulate a study of the paper's size with its Elo values, and analyse it"
    instead.add_argument("--simulate-paper", action="store_true", help=paper_help)
    add("--people", type=numbers, default=[6], metavar="P,P", help="--power: how many people, one or more sizes (6)")
    add("--prompts", type=int, default=18, metavar="Q", help="--power: prompts each of them judges (18)")
    add("--repeats", type=int, default=7, metavar="R", help="--power: judgements of each pair of conditions (7)")
    add("--num-conditions", type=int, default=5, metavar="C", help="--power: conditions, all compared (5)")
    person_help = "how much people differ in what a condition is worth, Elo (40, assumed)"
    add("--person-sd", type=float, metavar="SD", help=person_help)
    image_help = "how much the images of one condition differ for a person, Elo (80, assumed)"
    add("--image-sd", type=float, metavar="SD", help=image_help)
    add("--tie-share", type=float, default=0.1, metavar="X", help="share of ties between equal images (0.1, assumed)")
    add("--studies", type=int, metavar="N", help="simulated studies (1000; --simulate-paper: 200); 0: none")


def _study(args: argparse.Namespace) -> None:
    from .study.csv import read_choices
    from .study.page import ASSUMED_SD, planned_power, simulated_paper, study_report, study_table, write_study

    if (args.choices is None) != (args.power or args.simulate_paper):
        raise ValueError("Give either a CSV of choices, --power or --simulate-paper.")
    given = {name: getattr(args, name) for name in ("person_sd", "image_sd", "tie_share")}
    spread = ASSUMED_SD | {name: value for name, value in given.items() if value is not None}
    studies = args.studies if args.studies is not None else 200 if args.simulate_paper else 1000
    if args.power:
        for people in args.people:
            design = (args.num_conditions, people, args.prompts, args.repeats)
            print(planned_power(*design, **spread, studies=studies, seed=args.seed)["sentence"] + ".")
        assumed = f"{spread['person_sd']:g} Elo from person to person and {spread['image_sd']:g} from image to image"
        print(f"Assumed: liking of a condition differs by {assumed} (sd), {100 * args.tie_share:g} % ties of equals.")
        return
    if args.output is None and not args.simulate_paper:
        raise ValueError("Say where report.json and report.html go: --output FOLDER.")
    if args.simulate_paper:
        report = simulated_paper(**spread, studies=studies, bootstrap=args.bootstrap, seed=args.seed)
    else:
        choices = read_choices(args.choices, args.ignore)
        choices = choices.only(args.conditions) if args.conditions else choices
        report = study_report(choices, args.bootstrap, args.seed, studies)
    print(study_table(report))
    if args.output:
        write_study(report, args.output, "a simulated study" if args.simulate_paper else Path(args.choices).name)
        print(f"\nWrote {args.output / 'report.json'} and {args.output / 'report.html'}.")


COMMANDS = {
    "prepare-ratings": (PREPARE, _prepare_arguments, _prepare),
    "embed": (EMBED, _embed_arguments, _embed),
    "train": (TRAIN, _train_arguments, _train),
    "evaluate": (EVALUATE, _evaluate_arguments, _evaluate),
    "ablate": (ABLATE, _ablate_arguments, _ablate),
    "fit-user": (FIT_USER, _fit_user_arguments, _fit_user),
    "score": (SCORE, _score_arguments, _score),
    "optimize-prompt": (OPTIMIZE_PROMPT, _optimize_prompt_arguments, _optimize_prompt),
    "study": (STUDY, _study_arguments, _study),
    "push": (PUSH, _push_arguments, _push),
    "app": (app.HELP, app.add_arguments, app.run),
}


def main(argv: Sequence[str] | None = None, command: str | None = None) -> None:
    """Runs `pamela`, or with `command` one of its commands as a script of its own; exits with 1 on bad input."""
    raw = argparse.RawDescriptionHelpFormatter
    if command is None:
        parser = argparse.ArgumentParser(prog="pamela", description="Personal taste in images.")
        commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for name, (about, add_arguments, run) in COMMANDS.items():
            sub = commands.add_parser(name, help=about.splitlines()[0], description=about, formatter_class=raw)
            add_arguments(sub)
            sub.set_defaults(run=run)
    else:
        about, add_arguments, run = COMMANDS[command]
        parser = argparse.ArgumentParser(description=about, formatter_class=raw)
        add_arguments(parser)
        parser.set_defaults(run=run)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        if getattr(args, "device", None):  # before anything is read: ratings may take minutes
            from .encoder import usable_device

            usable_device(args.device)
        args.run(args)
    except (ValueError, OSError, ArithmeticError, RuntimeError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
