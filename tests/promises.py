"""The package's promises about faults and hostile input: what keeps each, and which tests prove it.

`run_faults.py` runs the proofs and writes this table, with what they counted, into SECURITY.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Proof:
    """A test function.

    Attributes:
        test: its path below tests/ and name, `file::function`. Where some of it is marked `faults`, that part is run.
        cases: how many cases it has to compare at least: the numbers that its lines begin with, added up over its
            parameters; of a test that prints no such line, how many parameters passed.
    """

    test: str
    cases: int


@dataclass(frozen=True)
class Promise:
    """Attributes:
    number: as in SECURITY.md.
    promise: in a few words.
    mechanism: what keeps it, and where.
    proofs: all of them have to hold.
    """

    number: int
    promise: str
    mechanism: str
    proofs: tuple[Proof, ...]


PROMISES = (
    Promise(
        1,
        "killed in training: resume gives the very weights",
        "stage, hash, fsync, rename, prune (`training/checkpoints.py`); every random choice is a function of seed, "
        "epoch and step",
        (Proof("training/test_train.py::test_two_hundred_kills_give_the_very_weights", 200),),
    ),
    Promise(
        2,
        "an altered checkpoint is refused by name",
        "manifest of sha256, strict schema of `run.json` (`training/checkpoints.py`)",
        (
            Proof("training/test_train.py::test_altered_checkpoints_are_refused_by_name", 15),
            Proof("training/test_train.py::test_a_run_that_is_none_is_refused_even_with_its_hash", 20),
        ),
    ),
    Promise(
        3,
        "a rating shown as saved is saved; retries are safe",
        "SQLite with its rollback journal, ids made by the client (`app/store.py`)",
        (
            Proof("app/test_store.py::test_two_writers_killed_lose_no_acknowledged_answer_and_double_none", 200),
            Proof("app/test_load.py::test_32_writers_at_once", 6400),
        ),
    ),
    Promise(
        4,
        "saving a head leaves the old or the new one, whole",
        "private staging, fsync, exchange (`files/writing.py`)",
        (
            Proof("heads/test_faults.py::test_whichever_call_fails_the_old_or_the_new_head_is_there_whole", 8),
            Proof("heads/test_faults.py::test_killed_while_saving", 200),
            Proof("files/test_writing.py::test_killed_while_writing", 400),
            Proof("ratings/test_preparation.py::test_killed_it_leaves_the_whole_or_nothing_200_times", 200),
        ),
    ),
    Promise(
        5,
        "nothing private is pushed",
        "allow-lists, `hub/scan.py`, `publishing/pictures.py`, `publishing/released.py`",
        (Proof("hub/test_clients.py::test_a_pushed_head_carries_nothing_of_50_canaries_and_peft_loads_it", 50),),
    ),
    Promise(
        6,
        "weights are safetensors or nothing",
        "`use_safetensors=True` everywhere, refused suffixes",
        (Proof("hub/test_promises.py::test_twelve_pickles_under_five_names_are_never_read", 60),),
    ),
    Promise(
        7,
        "a downloaded head or config runs no code, names no base and takes no token along",
        "strict schemas; known encoder kinds; no adapters; a token for the repository that was asked for",
        (
            Proof("heads/test_faults.py::test_thirty_hostile_configs_import_nothing_and_ask_nobody", 30),
            Proof("model/test_hostile_configs.py::test_wrong_types_and_sizes_are_named_by_every_door", 200),
            Proof("hub/test_clients.py::test_a_login_goes_to_no_repository_that_a_file_names", 1),
        ),
    ),
    Promise(
        8,
        "no path leaves its folder",
        "`files/folders.py`, `inner_path`; links refused at publishing and claiming",
        (
            Proof("heads/test_faults.py::test_no_generated_name_leaves_its_folder", 10_000),
            Proof("ratings/sources/test_pamela.py::test_no_name_leads_outside_10000", 10_000),
        ),
    ),
    Promise(
        9,
        "a bad row stops the import, or is set aside",
        "one gate for every row (`ratings/sources/_rows.py`)",
        (Proof("ratings/test_table.py::test_accepted_is_exactly_the_valid_set_of_1000", 40_000),),
    ),
    Promise(
        10,
        "NaN never wins; a non-finite loss changes no weight",
        "checked before `backward` (`training/train.py`) and before ranking (`prompts/search.py`)",
        (
            Proof("prompts/test_search.py::test_a_reward_that_is_not_finite_at_100_positions", 300),
            Proof("training/test_train.py::test_a_loss_that_is_not_finite_at_100_positions", 100),
        ),
    ),
    Promise(
        11,
        "a prompt run resumes to the same trajectory",
        "append-only trace, images named by content (`prompts/run_folder.py`)",
        (Proof("prompts/test_run_folder.py::test_two_hundred_killed_runs_resume_to_the_same_trajectory", 400),),
    ),
    Promise(
        12,
        "LLM answers never break a run; the best score never falls",
        "`refiners/_answers.py`",
        (
            Proof("refiners/test_transformers_chat.py::test_ten_thousand_fuzzed_answers_are_survived", 10_000),
            Proof("prompts/test_search.py::test_ten_thousand_fuzzed_answers_never_break_a_run", 10_000),
        ),
    ),
    Promise(
        13,
        "LLM text reaches the text encoder and escaped display only",
        "escaping (`files/escaping.py`, `reports/page.py`)",
        (Proof("prompts/test_page.py::test_five_hundred_injections", 500),),
    ),
    Promise(
        14,
        "a push is one commit",
        "look before sending again, parent commit (`hub/transfer.py`)",
        (
            Proof("hub/test_transfer.py::test_a_push_is_one_commit_whatever_fails", 45),
            Proof("hub/test_clients.py::test_a_pushed_pipeline_is_one_commit_whatever_fails", 36),
        ),
    ),
    Promise(
        15,
        "a corrupt download is never used",
        "hashes of the Hub (`hub/transfer.py`); `weights_sha256` for models",
        (
            Proof("hub/test_transfer.py::test_no_corrupt_download_is_ever_used", 100),
            Proof("hub/test_promises.py::test_a_model_that_arrives_damaged_is_never_used_100_times", 100),
            Proof("hub/test_clients.py::test_no_client_gets_something_wrong_from_a_failing_hub", 50),
        ),
    ),
    Promise(
        16,
        "archives are read in place; one bad member refuses the archive",
        "`ratings/sources/_files.py`",
        (Proof("ratings/sources/test_pamela.py::test_a_hostile_archive_is_refused_whole", 25),),
    ),
    Promise(
        17,
        "images: allowed formats, bounded, upright",
        "`files/images.py`; one picture decoded at a time (`scoring/scorer.py`)",
        (
            Proof("files/test_images.py::test_every_truncation_is_named", 400),
            Proof("files/test_images.py::test_a_400_megapixel_png_costs_no_memory", 1),
            Proof("files/test_images.py::test_all_orientations_give_the_same_picture", 8),
            Proof("test_doors.py::test_many_large_images_are_not_in_memory_at_once", 32),
        ),
    ),
    Promise(
        18,
        "the app listens on loopback and serves nothing but its images; a Space answers to its own name alone, and "
        "each visitor has their own people",
        "`app/security.py`, `app/visitors.py`",
        (
            Proof("app/test_server.py::test_no_hostile_path_is_served", 2000),
            Proof("app/test_server.py::test_other_sites_and_other_names_are_refused", 1),
        ),
    ),
    Promise(
        19,
        "tokens appear nowhere",
        "masked errors (`hub/scan.py`), `environment_without_secrets`",
        (Proof("hub/test_promises.py::test_a_token_appears_nowhere_in_30_failing_commands", 30),),
    ),
    Promise(
        20,
        "a head does not depend on demographics unless asked",
        "they are not read (`heads/fitting.py`)",
        (Proof("heads/test_faults.py::test_demographics_alone_never_change_a_head", 100),),
    ),
    Promise(
        21,
        "out of memory: halve and go on",
        "`encoder.py`, `prompts/rendering.py`",
        (Proof("prompts/test_rendering.py::test_out_of_memory_at_64_positions", 64),),
    ),
    Promise(
        22,
        "a malformed file costs an error, not memory",
        "header read and checked before anything is allocated",
        (
            Proof("test_promises.py::test_malformed_features_hundred_thousand_times", 100_000),
            Proof("heads/test_head.py::test_many_mutated_weights_cost_an_error", 100_000),
            Proof("test_promises.py::test_altered_weights_are_refused_two_thousand_times", 2000),
            Proof("test_promises.py::test_hostile_headers_cost_no_memory", 35),
        ),
    ),
    Promise(
        23,
        "a score does not depend on its batch, nor on other threads",
        "padding-free batches, eval mode, one guarded load of the encoder",
        (
            Proof("test_promises.py::test_a_pictures_score_does_not_depend_on_two_hundred_batches", 200),
            Proof("test_promises.py::test_the_encoder_is_the_same_after_training_steps", 1),
            Proof("test_threads.py::test_fresh_threads_get_what_one_gets_in_200_processes", 200),
        ),
    ),
    Promise(
        24,
        "a changed source is rebuilt",
        "cache named after the content (`ratings/builder.py`)",
        (Proof("ratings/test_builder.py::test_a_changed_score_is_rebuilt_100_times", 100),),
    ),
    Promise(
        25,
        "load on two cores: a million ratings, a large archive, 20 people at once",
        "streamed reading (`ratings/sources/`), bytes a row, one writer (`app/store.py`)",
        (
            Proof("ratings/test_load.py::test_a_million_ratings_fit_in_memory_and_time", 1_600_000),
            Proof("ratings/test_load.py::test_a_large_archive_is_read_in_place", 5000),
            Proof("app/test_load.py::test_twenty_people_rate_at_once", 2000),
        ),
    ),
)
