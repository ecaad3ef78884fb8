"""Which of five languages a text is written in, told by its function words.

Articles, pronouns and conjunctions make up a third or more of running text and hardly occur in other
languages. The rule needs a few words of running text; lists of names or single words give no answer.
"""

from __future__ import annotations

from palate.judges.text import words

FUNCTION_WORDS: dict[str, frozenset[str]] = {
    name: frozenset(listed.split())
    for name, listed in {
        "english": """the of and to in is it that was for on are with as his they at be this have from
            or had by not but what all were we when your can said there an which she do how
            their if will up about out then them would like so these her has him been its who
            did you my i he me no just because only very""",
        "spanish": """el la los las de del y que en un una es por con no para se al lo como más pero
            sus le ya o este sí porque esta entre cuando muy sin sobre también me hasta hay
            donde quien desde todo nos durante todos uno les ni contra otros ese eso había
            ante ellos esto mí antes algunos qué unos yo otro tiene son está""",
        "french": """le la les de des du et que en un une est pour pas par sur se ce il au aux qui
            dans ne plus avec son sa ses mais nous vous ils elle elles leur on cette ces comme
            je tu me mon ma mes sont être avoir fait été très où si sans sous tout tous c'est
            d'un d'une n'est j'ai qu'il l'on ça""",
        "german": """der die das und ist nicht ein eine einen einem einer zu den dem des mit von für
            auf im in sich auch es an als wie bei oder aber nach aus so wir ich sie er du ihr
            man noch nur wenn kann sind war hat haben wird werden zum zur über dass daß schon
            mehr sehr was durch um doch ja mal""",
        "italian": """il lo la gli le di del della dei delle e che in un una è per con non si al alla
            come più ma sono da dal nel nella anche ci se io tu lui lei noi voi loro questo
            questa quello chi cosa ha ho hanno essere era molto dove quando perché o suo sua
            mi ti tutto tutti poi già solo""",
    }.items()
}
MIN_WORDS = 4
MIN_SHARE = 0.15


def language(text: str) -> str | None:
    """The language with most function words in the text, or None where that cannot be told.

    None is given for fewer than 4 words, where fewer than 15 % of the words are function words of the winning
    language, and where two languages tie.
    """
    found = [word.casefold().replace("’", "'") for word in words(text)]
    if len(found) < MIN_WORDS:
        return None
    hits = {name: sum(word in listed for word in found) for name, listed in FUNCTION_WORDS.items()}
    (first, most), (_, second) = sorted(hits.items(), key=lambda entry: -entry[1])[:2]
    return first if most > second and most >= MIN_SHARE * len(found) else None
