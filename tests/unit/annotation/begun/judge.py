def length(fields):
    score = 1 + len(fields["text"]) % 5
    return {"efficiency": score, "overall": score, "critique": f"of length {len(fields['text'])}"}


def think(prefix, suffix):
    return suffix.replace("It ends.", "<note> Does it? </note> It ends.")
