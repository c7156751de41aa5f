import numpy as np

from pamela_hf.baselines import load_baseline
from pamela_hf.training.train import load_sources


def test_people_of_the_same_demographics_get_the_same_score_from_the_models_recipe(trained_folder, ratings_folder):
    data, embeddings = load_sources([ratings_folder])
    scorer = load_baseline("consensus").fit(
        data.splits["train"], embeddings, seed=1, data=data, model_dir=trained_folder
    )
    assert (scorer.name, scorer.personal) == ("consensus", False)
    assert scorer.config.users == []
    assert scorer.config.hidden_size == 16  # the toy model's, not the default
    table = data.splits["test_seen"]
    predicted = table.assign(predicted=scorer.predict(table, embeddings).scores)
    alike = ["image_id", "age_binned", "gender"]
    assert predicted.groupby(alike, observed=True)["participant_id"].nunique().max() > 1
    spread = predicted.groupby(alike, observed=True)["predicted"].agg(np.ptp)
    assert spread.max() < 1e-5
    assert predicted["predicted"].std() > 0.05
