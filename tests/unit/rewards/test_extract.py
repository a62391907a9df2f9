"""Which answer a completion ends with."""

from __future__ import annotations

import time

import pytest

from ixt_rl.rewards import final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{5}.", "5"),
        (r"\boxed{5} is wrong ... it is \boxed{6}", "6"),
        (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed 5", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{5} or \boxed{6}", "5, 6"),
        (r"$\boxed{1}$, $\boxed{2}$", "1, 2"),
        (r"an unmatched { before \boxed{3}", "3"),
        (r"\fbox{9}", "9"),
        (r"first \boxed{5} and then \boxed{6", None),
        (r"\boxed{", None),
        (r"\boxed{}", None),
        ("no answer", None),
        ("#### 18", None),
    ],
)
def test_last_box(text, answer):
    assert final_answer(text, "last_box") == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("steps\n#### 18", "18"),
        ("#### 1\n#### 2\nand more", "2"),
        ("steps\nA: 18", "18"),
        ("price: $5\n**Answer:** 18", "18"),
        ("The answer is 5. I am sure.", "5"),
        ("The final answer is 3.14.", "3.14"),
        (r"#### 3 but really \boxed{4}", "4"),
        ("nothing here", None),
        ("", None),
    ],
)
def test_auto(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
(r"<think>\boxed{4}</think><answer>5</answer>","5"),
(r"<think>so \boxed{4}</think> The answer is 5.","5"),
(r"<think>so \boxed{4} hmm",None),
("so \\boxed{4} </think>\n\nTherefore \\boxed{5}","5"),
("**Final Answer:**\n\n5","5"),
("**Final Answer**\n\n$$\n5\n$$","$$\n5\n$$"),
("### Final Answer\n\n\\[ x = 5 \\]","\\[ x = 5 \\]"),
("#### Final Answer\n5","5"),
("#### Final Answer: 5","5"),
("Final Answer: The final answer is $5$. I hope it is correct.","$5$"),
("The final answer is 5. I hope it is correct.","5"),
("the answer would be 5","5"),
("The answer is 5. As asked, I put it in \\boxed{}.","5"),
("The answer is 5. I will put it in a `\\boxed`.","5"),
("答案是5","5"),("所以答案是：5。","5"),("故选B","B"),("故选：B．","B"),
("Die Antwort ist 5.","5"),("Die Antwort lautet: 3,5","3,5"),("La réponse est 5.","5"),
("La réponse finale est : 5","5"),
("La respuesta es 5.","5"),("Ответ: 5","5"),("答えは5です","5"),("정답은 5입니다.","5"),
("The answer is: **5**","5"),("**Answer:** 18","18"),("Answer: (B) 12","(B) 12"),
("The correct answer is (B).","(B)"),("The correct option is B","B"),
("The answer is $\\frac{1}{2}$.","$\\frac{1}{2}$"),
("The answer is 3.14.","3.14"),("The answer is -5.","-5"),("Answer: -5","-5"),("The answer is: - 5","- 5"),
("The answer is 5 because x","5"),("so the answer to the question is 5.","5"),
("<answer>The answer is 5</answer>","5"),("<answer>\\boxed{5}</answer>","5"),("<answer> x = 5 </answer>","x = 5"),
("\x08oxed{5}","5"),("\\boxed 15","15"),("\\boxed{\\text{your answer}} and the answer is 5","5"),
("The answer is 5 apples.","5 apples"),
("steps\n#### 18","18"),("#### 1\n#### 2\nand more","2"),
("A: 18","18"),("Answer: \\(5\\)","\\(5\\)"),("ANSWER: 5","5"),
("The answer is $5.","$5"),("The answer is $5.50.","$5.50"),("The answer is \\$5.","\\$5"),
("Thus the answer is x=2 or x=3.","x=2 or x=3"),
("the answer is 1,234 dollars.","1,234 dollars"),
("The answer is \\( 5 \\) meters.","\\( 5 \\) meters"),
("**Answer**\n5","5"),("Final answer\n5","5"),
("My answer = 5","5"),
("Here is \\boxed{5}. Let me verify: yes. <answer>6</answer>","6"),
("<|channel|>analysis<|message|>x \\boxed{4}<|channel|>final<|message|>\\boxed{5}","5"),
("the final answer is: \n\n$\\boxed{5}$","5"),
("$5 + 5 = 10$ so the total is 10.",None),
("The answer is 5<|im_end|>","5"),("#### 5<|eot_id|>\n","5"),("\\boxed{5} then \\boxed{6<|im_end|>",None),
("Option B is correct.","B"),("Option B is not correct.",None),("So (B) is the correct answer.","(B)"),
("Das Ergebnis ist 5.","5"),("Le résultat est 5.","5"),("El resultado es 5.","5"),("Il risultato è 5.","5"),
("The answer, then, is 5","5"),("The answer I get is 5","5"),("The answer should equal 5","5"),
("the answer comes to 5","5"),
    ],
)  # fmt: skip
def test_answers_as_models_give_them(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("how", "text", "answer"),
    [
        ("boxed", r"<think>\boxed{4}</think> so \boxed{5} <answer>6</answer>", "5"),
        ("boxed", r"<think>\boxed{4}", None),
        ("tags", r"\boxed{4} <answer>5</answer> <answer> </answer>", "5"),
        ("tags", r"\boxed{4}", None),
        ("hashes", "#### 5\n#### Conclusion\nIt is done.", "5"),
        ("minerva", "Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
        ("minerva", r"\boxed{5}", None),
    ],
)
def test_presets_look_in_one_place(how, text, answer):
    assert final_answer(text, how) == answer


def test_the_last_line_counts_only_on_request():
    assert final_answer("so we get\n**5**\n") is None
    assert final_answer("so we get\n**5**\n", last_line=True) == "5"
    assert final_answer("<think>so we get\n5", last_line=True) is None


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 150_000,
        "{" * 10**6,
        r"\boxed{1} " * 10**5,
        "*" * 10**6,
        "A:" * 500_000,
        "<think>" * 10**5,
        "</think>" * 10**5,
        "#### " * 10**5,
        "answer is " * 10**5,
        "<answer>" * 10**5,
        "the final answer is " * 50_000,
    ],
)
def test_time_is_linear(text):
    start = time.process_time()
    final_answer(text)
    assert time.process_time() - start < 5
