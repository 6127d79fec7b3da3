"""Languages are told or unknown, never guessed; personal data is masked whole, everywhere, or the document refused."""

import pytest

from penstock.base.errors import InvalidInput
from penstock.knowledge.errors import PersonalDataRefused
from penstock.knowledge.parse import pack_document, parse_document
from penstock.knowledge.parse.language import language_of
from penstock.spec.knowledge import ParseRecipe, Scrubbing
from tests.knowledge.parse.builders import read

SAMPLES = {
    "en": "The body repairs itself at night, and the mind sorts what it has seen during the day that was.",
    "de": "Der Körper erholt sich in der Nacht, und der Geist ordnet, was er an dem Tag gesehen hat und nicht vergaß.",
    "fr": "Le corps se repose pendant la nuit, et l'esprit range ce qu'il a vu dans la journée avec les autres.",
    "es": "El cuerpo descansa por la noche y la mente ordena lo que vio en el día con los ojos de los demás.",
    "it": "Il corpo si riposa di notte e la mente ordina quello che ha visto nel giorno con gli occhi della gente.",
    "pt": "O corpo descansa de noite e a mente ordena o que viu no dia com os olhos das pessoas que não dormem.",
    "nl": "Het lichaam herstelt zich in de nacht en de geest ordent wat hij op die dag heeft gezien met het oog.",
    "sv": "Kroppen vilar om natten och hjärnan ordnar det som den har sett under dagen med ögonen till dess att den är nöjd.",
    "da": "Kroppen hviler om natten, og hjernen ordner det, som den har set af dagen, men den er ikke altid færdig med det.",
    "no": "Kroppen hviler om natten, og hjernen ordner det som den har sett av dagen, men den er ikke alltid ferdig etter hva jeg vet.",
    "fi": "Keho lepää yöllä ja mieli järjestää sen mitä se on nähnyt, mutta ei aina ole niin että se oli hän joka näki.",
    "pl": "Ciało odpoczywa w nocy i umysł porządkuje to, co się w ciągu dnia działo, ale nie jest to tak, że to już jest wszystko.",
    "cs": "Tělo odpočívá v noci a mysl třídí to, co se ve dne stalo, ale není to tak, že by to bylo již vše pro něj na celý den a jeho noc.",
    "tr": "Vücut gece dinlenir ve zihin gün içinde gördüğü her şeyi bir düzene koyar, ama bu çok kolay bir iş değil gibi ve ne kadar olduğu da önemli.",
    "ru": "Тело отдыхает ночью, и разум приводит в порядок то, что он увидел за день, это объясняет сны.",
    "uk": "Тіло відпочиває вночі, і розум упорядковує те, що він побачив за день, це пояснює її сни.",
    "ja": "体は夜に休み、心は昼に見たものを整理します。睡眠はとても大切です。",
    "zh": "身体在夜间休息，大脑整理白天所见的一切。睡眠对每个人都非常重要，不可缺少。",
    "ko": "몸은 밤에 쉬고 마음은 낮에 본 것을 정리합니다. 잠은 매우 중요합니다.",
    "el": "Το σώμα ξεκουράζεται τη νύχτα και ο νους τακτοποιεί όσα είδε την ημέρα.",
    "ar": "يستريح الجسم في الليل ويرتب العقل ما رآه خلال النهار والنوم مهم جدا.",
    "he": "הגוף נח בלילה והמוח מסדר את מה שראה במשך היום והשינה חשובה מאוד.",
}  # fmt: skip


@pytest.mark.parametrize("language", sorted(SAMPLES))
def test_a_sentence_or_two_tell_the_language(language: str) -> None:
    assert language_of(SAMPLES[language]) == language


@pytest.mark.parametrize(
    "text", ["", "ok", "12 34 56", "Alpha Beta Gamma Delta " * 20, SAMPLES["en"][:15], "xyzzy plugh " * 30]
)
def test_what_cannot_be_told_is_unknown(text: str) -> None:
    assert language_of(text) is None


MASK = ParseRecipe(scrub=Scrubbing(action="mask"))
TEXT = (
    b"---\nauthor: ada@example.org\nreaders: ['user:ada@example.org']\n---\n"
    b"# About ada@example.org\n\n## Write to bob@example.org\n\nOr to bob@example.org, +49 30 1234567, "
    b"DE89 3704 0044 0532 0130 00.\n\n| who | mail |\n|---|---|\n| Ada | ada@example.org |\n"
)


def test_personal_data_is_masked_in_every_part_of_a_document() -> None:
    document = read("a.md", TEXT, MASK)
    assert document.title == "About [email]"
    assert document.sections[0].heading == "Write to [email]"
    assert document.sections[0].anchor == "write-to-email"
    assert document.text == (
        "Or to [email], [phone], [iban].\n\n| who | mail |\n| --- | --- |\n| Ada | [email] |"
    )
    assert document.properties.values == {"author": "[email]"}
    assert document.problems[-1] == "personal data was masked: 5 email, 1 iban, 1 phone"
    # Who may find it is a rule and no text: masked, nobody could.
    assert document.properties.readers == ["user:ada@example.org"]
    kept = pack_document(document).replace(b"user:ada@example.org", b"")
    assert b"example.org" not in kept and b"0532" not in kept


def test_only_the_kinds_asked_for_are_masked() -> None:
    document = read("a.md", TEXT, ParseRecipe(scrub=Scrubbing(action="mask", kinds=["iban"])))
    assert "[iban]" in document.text and "bob@example.org" in document.text


def test_a_document_with_personal_data_is_refused_with_its_counts() -> None:
    with pytest.raises(PersonalDataRefused, match="5 email, 1 iban, 1 phone"):
        parse_document("a.md", TEXT, ParseRecipe(scrub=Scrubbing(action="refuse")))
    assert read("b.md", b"Nobody is named here.", ParseRecipe(scrub=Scrubbing(action="refuse")))


def test_an_unknown_kind_masks_nothing_in_silence() -> None:
    with pytest.raises(InvalidInput, match="emial"):
        parse_document("a.md", TEXT, ParseRecipe(scrub=Scrubbing(action="mask", kinds=["emial"])))


def test_nothing_is_masked_unless_asked() -> None:
    assert "bob@example.org" in read("a.md", TEXT).text
