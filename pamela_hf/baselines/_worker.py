"""Scores images with an authors' code, in the Python that has it: `python _worker.py RIVAL WEIGHTS REVISION [OPTIONS]`.

Such code asks for versions that cannot live beside this package, so this file imports nothing of pamela_hf. It answers
each line of JSON on stdin, `{"images": [paths], "prompts": [texts]}`, with one on stdout: `{"scores": [numbers]}` or
`{"error": text}`; the first line, sent once the weights are loaded, is `{"scores": []}`.
"""

import json
import os
import sys

# Python puts this script's folder first, and there a rival's module has the name of its authors' package.
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]


def hpsv3(weights, revision):
    from hpsv3 import HPSv3RewardInferencer  # isort: skip: a missing package is reported at once
    import torch
    from huggingface_hub import hf_hub_download

    checkpoint = hf_hub_download(weights, "HPSv3.safetensors", revision=revision)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    inferencer = HPSv3RewardInferencer(checkpoint_path=checkpoint, device=device)
    if device == "cpu":  # its head is float32 and meets bfloat16 features only under CUDA's autocast
        inferencer.model.float()

    def score(images, prompts):
        with torch.inference_mode():
            # by name: the release and the repository have the two in different order
            rewards = inferencer.reward(image_paths=images, prompts=prompts)
        return [float(reward[0]) for reward in rewards]  # (mean, spread): the authors take the mean

    return score


def imagereward(weights, revision):
    import ImageReward
    import torch
    from huggingface_hub import hf_hub_download

    files = [hf_hub_download(weights, file, revision=revision) for file in ("ImageReward.pt", "med_config.json")]
    model = ImageReward.load(files[0], med_config=files[1])

    def score(images, prompts):
        with torch.inference_mode():
            return [float(model.score(prompt, image)) for image, prompt in zip(images, prompts)]

    return score


def qalign(weights, revision, task):
    import torch
    from PIL import Image
    from transformers import AutoModelForCausalLM

    # as on its model card; the code that runs is that of this one commit
    model = AutoModelForCausalLM.from_pretrained(
        weights,
        revision=revision,
        code_revision=revision,
        trust_remote_code=True,
        attn_implementation="eager",
        torch_dtype=torch.float16,
        device_map="auto",
    )

    def score(images, prompts):
        with torch.inference_mode():
            opened = [Image.open(image).convert("RGB") for image in images]
            return model.score(opened, task_=task, input_="image").float().tolist()

    return score


def serve(load):
    """`load() → score(images, prompts) → numbers`, answering until stdin closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print must not come between the answers

    def answer(work):
        try:
            message = {"scores": work()}
        except Exception as error:
            message = {"error": str(error) or "it failed without a message"}
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    def start():
        nonlocal score
        score = load()
        return []

    score = None
    answer(start)
    for line in sys.stdin:
        answer(lambda line=line: score(**json.loads(line)))


if __name__ == "__main__":
    rivals = {"hpsv3": hpsv3, "imagereward": imagereward, "qalign": qalign}
    serve(lambda: rivals[sys.argv[1]](*sys.argv[2:]))
