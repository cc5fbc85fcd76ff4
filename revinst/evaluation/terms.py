"""Words of the reports in plain words: what a link with a dotted line shows, and the list at the end of each page.

Templates name them by `term` of macros.html.j2. A page lists those that it uses.
"""

from revinst.evaluation.baselines import NUM_WORDS

ROUGE = {
    "rouge1": "Words that prediction and reference share, in any order, as F1: 1 is all of them, 0 none.",
    "rouge2": "Pairs of neighbouring words that both share, as F1.",
    "rougeL": "The longest row of words that both have in the same order, gaps allowed, as F1.",
}
TERMS = {
    "row": "A text (the response), the instruction that belongs to it (the reference), and what a system wrote for the "
    "text (the prediction).",
    "group": "Rows that are nearly the same text. They rise and fall together, so intervals and p count them as one.",
    "tuned": "The fine-tuned model, which this page is about.",
    "predictions": "The texts of the file that was scored, which this page is about.",
    "baseline": "A way to get an instruction without this training. A score counts only above the best of them.",
    "base": "The same model before it was fine-tuned, given the same prompt.",
    "random_instruction": "The instruction of another row, drawn at random.",
    "best_constant": "One and the same instruction for all rows: the one that does best on other rows.",
    "lead_words": f"The first {NUM_WORDS} words of the response, as they stand.",
    "what_is": f"“What is”, the first {NUM_WORDS} words of the response, and a question mark.",
    "nearest_response": "The instruction of the training row whose response is most like this one.",
    "gain": "How much higher than the baseline on the same rows, with its 95 % interval.",
    "interval": "Had other rows been drawn, the mean would be another. The 95 % interval holds the true one in "
    "about 95 of 100 such draws; a wide one says that the rows are too few to know. It is a bootstrap over groups.",
    "p": "How often chance alone makes a difference as large as this one, were both equally good. Below 0.05 is "
    "commonly taken for a difference.",
    "p_holm": "p after Holm's correction: who compares many pairs finds a small p by chance alone.",
    "detectable": "The smallest true difference that a test on these rows finds 4 times of 5. A smaller one may be "
    "there and not be seen.",
    "loss": "How much the true instructions surprise the model, per token, in nats. Lower is better.",
    **ROUGE,
    **{f"{name}_unicode": f"{text} Reads the words of any script." for name, text in ROUGE.items()},
    "chrf": "Runs of 1 to 6 characters that both share, so other forms of a word count in part.",
    "macro": "The mean of the categories' means: a small category counts as much as a large one.",
    "copied": "The longest run of words that the prediction took over from the response, as a share of the prediction.",
    "similar": "How much the row is like the training row that it is most like: shared runs of 5 characters, 0 to 1.",
    "degenerate": "Empty, going round in a loop, or an echo of the prompt.",
    "cut": "The text had not ended when it reached the most tokens allowed.",
    "greedy": "The text that takes the likeliest token each time.",
    "consensus": "Of several sampled texts the one that is most like all others. It needs no reference.",
    "log_p": "Of several sampled texts the one that the model finds likeliest, per token. It needs no reference.",
    "best_of_k": "Of several sampled texts the one that scores best. It needs the reference, so it is an upper bound.",
    "round_trip": "A good instruction makes the response likelier. “shuffled” is another row's instruction.",
    "judge": "A language model that rates each prediction. It has tastes of its own; see how far people agree with it.",
    "wins": "Rows on which the system scores higher than A, as high, and lower.",
}
LABELS = {  # where a page calls it otherwise
    "interval": "95 % interval",
    "p_holm": "p",
    "detectable": "detectable difference",
    "cut": "cut at the limit",
    "log_p": "log p a token",
    "best_of_k": "best of the samples",
    "round_trip": "round trip",
    "wins": "won / tied / lost",
}
