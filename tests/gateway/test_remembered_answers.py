"""The cache of answers of a project: its budget, and that it forgets what is out of date."""

from gateway.watch.answers import AnswerBudget, RememberedAnswers


def _of_size(size: int) -> bytes:
    return b"x" * size


def test_new_answers_take_the_place_of_the_oldest() -> None:
    budget = AnswerBudget(10_000, 10_000)
    answers = RememberedAnswers(budget)
    answers.advance("a.1")
    for number in range(100):
        answers.keep_status(b"%d" % number, None, _of_size(1000), "a.1")
    kept = [number for number in range(100) if answers.status(b"%d" % number, None) is not None]
    assert kept == list(range(93, 100))
    assert budget.used <= 10_000
    answers.advance("a.2")
    assert (budget.used, answers.status(b"99", None)) == (0, None)


def test_an_answer_larger_than_the_budget_leaves_nothing_behind() -> None:
    budget = AnswerBudget(10_000, 10_000)
    answers = RememberedAnswers(budget)
    answers.advance("a.1")
    answers.keep_status(b"large", None, _of_size(20_000), "a.1")
    assert (budget.used, answers.status(b"large", None)) == (0, None)


def test_a_project_takes_nothing_from_the_answers_of_another() -> None:
    budget = AnswerBudget(3000, 3000)
    one, other = RememberedAnswers(budget), RememberedAnswers(budget)
    for answers in (one, other):
        answers.advance("a.1")
    for number in range(2):
        one.keep_status(b"%d" % number, None, _of_size(1000), "a.1")
    other.keep_status(b"0", None, _of_size(1000), "a.1")
    assert other.status(b"0", None) is None
    assert one.status(b"0", None) is not None
    one.close()
    other.keep_status(b"0", None, _of_size(1000), "a.1")
    assert other.status(b"0", None) is not None


def test_an_answer_of_an_older_cursor_is_not_kept() -> None:
    answers = RememberedAnswers(AnswerBudget(10_000, 10_000))
    answers.advance("a.2")
    answers.keep_status(b"question", None, b"answer", "a.1")
    assert answers.status(b"question", None) is None


def test_an_answer_that_is_quickly_made_is_kept_when_it_is_asked_for_again() -> None:
    budget = AnswerBudget(10**6, 10**6)
    answers = RememberedAnswers(budget)
    answers.advance("a.1")
    answers.keep_status_asked_twice(b"question", None, b"answer", "a.1")
    assert (budget.used, answers.status(b"question", None)) == (0, None)
    answers.keep_status_asked_twice(b"question", None, b"answer", "a.1")
    assert answers.status(b"question", None) == b"answer"
    answers.advance("a.2")
    answers.keep_status_asked_twice(b"question", None, b"another", "a.2")
    assert answers.status(b"question", None) is None


def test_questions_that_nobody_repeats_take_no_memory() -> None:
    budget = AnswerBudget(10**8, 10**8)
    answers = RememberedAnswers(budget)
    answers.advance("a.1")
    for number in range(20_000):
        answers.keep_status_asked_twice(b"%d" % number, None, b"answer", "a.1")
    kept = sum(answers.status(b"%d" % number, None) is not None for number in range(20_000))
    assert kept < 10_000  # those whose hash values are alike; without an end of the notes it would be nearly all
    crowd = [b"poll %d" % number for number in range(100)]
    for _ in range(3):
        for question in crowd:
            answers.keep_status_asked_twice(question, None, b"answer", "a.1")
    assert all(answers.status(question, None) == b"answer" for question in crowd)
