"""Scores images with an authors' package, in the Python that has it: `python _worker.py RIVAL`.

Such packages pin versions that cannot live beside this one, so this file imports nothing of pamela_hf. It answers each
line of JSON on stdin, `{"images": [paths], "prompts": [texts]}`, with one on stdout: `{"scores": [numbers]}` or
`{"error": text}`; the first line, sent once the weights are loaded, is `{"scores": []}`.
"""

import json
import os
import sys

# Python puts this script's folder first, and there a rival's module has the name of its authors' package.
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]


def hpsv3():
    import torch
    from hpsv3 import HPSv3RewardInferencer

    inferencer = HPSv3RewardInferencer(device="cuda" if torch.cuda.is_available() else "cpu")

    def score(images, prompts):
        with torch.inference_mode():
            # by name: the release and the repository have the two in different order
            rewards = inferencer.reward(image_paths=images, prompts=prompts)
        return [float(reward[0]) for reward in rewards]  # (mean, spread): the authors take the mean

    return score


def imagereward():
    import ImageReward
    import torch

    model = ImageReward.load("ImageReward-v1.0")

    def score(images, prompts):
        with torch.inference_mode():
            return [float(model.score(prompt, image)) for image, prompt in zip(images, prompts)]

    return score


def serve(load):
    """`load() → score(images, prompts) → numbers`, answering until stdin closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print must not come between the answers

    def answer(work):
        try:
            message = {"scores": work()}
        except Exception as error:
            message = {"error": f"{type(error).__name__}: {error}"}
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
    serve({"hpsv3": hpsv3, "imagereward": imagereward}[sys.argv[1]])
