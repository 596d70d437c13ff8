"""What is said in the scenes of bench-translate: this project's own sentences and invented names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Script:
    """The words of a scene."""

    name: str
    terms: Sequence[str]
    """Names of people and places."""
    lines: Sequence[str]
    """Sentences with a place for one of them."""
    others: Sequence[str]
    """Sentences without."""
    voices: Sequence[str]
    """espeak-ng's."""
    seconds: float
    """How long the scene lasts: pauses fill what the sentences leave."""


FILM = Script(
    name="film",
    terms=(
        *("Brannoch", "Quillaree", "Tessaveth", "Morwenstow", "Ilkarim", "Zhadunov", "Pellandrine", "Osteric"),
        *("Vantreel", "Kethmarra", "Dunharrow", "Sylvarine", "Gorbachevka", "Halvicente", "Nyrothis"),
        *("Ferrigan Tooley", "Marchetti", "Lumivox", "Krellford", "Abernathia", "Wexcombe", "Thaddeus Orne"),
        *("Corvannis", "Jellicoe Strand", "Mirandola", "Petrovasky", "Ulmgard", "Barrowmere", "Castellane"),
        *("Hedgerley", "Oxnarvik", "Saltfleet", "Tirzavel", "Rosencamp", "Yarrowick", "Delphinar", "Eskermont"),
        *("Quorndale", "Inverlochy", "Baskerway"),
    ),
    lines=(
        "Did you see what {} wrote about the harbour last night?",
        "I told {} that the bridge would not hold until the spring.",
        "Nobody in {} wants to talk about the money any more.",
        "When we came to {}, the doors were open and the lights were on.",
        "If {} is right, we have two hours before the water comes.",
        "The letter from {} was lying under the table the whole time.",
        "My brother worked for {} before the war, and he never said why he left.",
        "Put the boxes in the car and drive to {} as fast as you can.",
        "It was {} who gave me the key and asked me to wait.",
        "There is a small hotel near {} where they still remember her.",
        "You can't trust {} with a secret, and you know it.",
        "We lost the road somewhere behind {} and slept in the car.",
        "The doctor says {} will be able to walk again in a month.",
        "Call {} and tell them that the train is late again.",
        "She bought the old house in {} for almost nothing.",
        "I have never been to {}, but my mother told me stories about it.",
        "And then? {} again, always the same story.",
        "They found his coat by the river, two miles from {}.",
        "Why should I believe {} after all that happened?",
        "The radio said that snow is coming down on {} tonight.",
        "Before we leave for {}, I want to hear the truth.",
        "He carries a picture of {} in his wallet, I have seen it.",
    ),
    others=(
        "The weather was bad, and nobody had slept for two days.",
        "Are you sure that this is the right door?",
        "He took the last piece of bread and closed the window.",
        "We should have called the police on the first evening.",
        "Please sit down, the meeting will begin in ten minutes.",
        "The children were playing in the garden behind the school.",
        "How much did you pay for that old bicycle?",
        "I will make some coffee, and then you can tell me everything.",
        "She looked at the clock and said nothing at all.",
        "There were three men on the platform, and one of them was limping.",
        "Don't shout at me, I can hear you very well.",
        "The soup is cold and the bread is from yesterday.",
        "You were supposed to bring the papers on Monday.",
        "My father used to repair watches in a shop by the market.",
        "It rained so hard that the cellar was full of water.",
        "Somebody has been in this room since we left.",
        "I can't find my glasses, and without them I am blind.",
        "Turn off the engine and wait until they have passed.",
        "He promised that he would write every week, and he never did.",
        "The key is under the second stone on the left.",
        "We have enough fuel for sixty miles, not for a hundred.",
        "Who told you that the office would be closed?",
        "Every summer we took the boat and stayed until the evening.",
        "I was a nurse for eleven years before I came here.",
        "Listen, there is somebody on the stairs.",
        "Give the dog some water and let him sleep.",
        "They are going to sell the farm, whatever we say.",
        "The judge had already made up his mind.",
        "It is only a scratch, it will heal in a few days.",
        "Nobody asked you to carry all of it alone.",
        "Take the second street on the right, behind the church.",
        "I have read the same page four times now.",
        "The telephone rang twice and then it stopped.",
        "What did he look like, was he tall or short?",
        "We sold the piano when the baby was born.",
        "That was the last time that I saw her smile.",
    ),
    voices=("en-us", "en-gb", "en-us+f3", "en-gb+m3", "en-gb-scotland", "en-us+m7"),
    seconds=600,
)
"""Ten minutes with forty names."""

HELD_BACK = Script(
    name="held-back",
    terms=(
        *("Tolvenburg", "Ashkerrin", "Cressida Vale", "Norbalt", "Pemberlow", "Vasilenka", "Druminore", "Echeverra"),
        *("Fallowhythe", "Grimsdyke", "Isembard Knox", "Jorvanna", "Kalperini", "Lindqvar", "Ombersley", "Rathkeel"),
        *("Skarholm", "Trevannion", "Umbriel", "Zelkova"),
    ),
    lines=(
        "The man from {} has been waiting in the hall since nine.",
        "Do you remember the winter that we spent in {}?",
        "All the maps of {} were burnt in the fire.",
        "If you meet {}, don't say that I sent you.",
        "I heard {} singing in the kitchen this morning.",
        "The last bus for {} leaves in a quarter of an hour.",
        "{} was the only one who knew the number.",
        "They say that {} is dangerous at night, but I like it.",
        "We owe everything to {}, and you laugh about it.",
        "Show me on the map where {} is.",
        "Has anybody spoken to {} since Thursday?",
        "The ring belonged to {}, and it isn't worth much.",
    ),
    others=(
        "This is the third time that the lift has broken down.",
        "You have paint on your sleeve and on your chin.",
        "The bakery opens at six, so we can have breakfast there.",
        "I dreamt that I was late for the exam.",
        "Leave the window open, it is warm enough.",
        "Our neighbours have bought a very loud piano.",
        "He drew a circle in the sand and sat down inside it.",
        "The captain refused to leave the harbour in such fog.",
        "Nine people came, and we had chairs for seven.",
        "Could you hold this ladder for a moment?",
        "She cut her hair and sold her books.",
        "There must be another way out of the building.",
        "The bread knife is in the drawer with the candles.",
        "I forgot to feed the cat before we left.",
        "Half of the street was dark, and the rest was empty.",
        "It takes a whole day to walk around the lake.",
    ),
    voices=("en-gb-x-rp", "en-us+f2", "en-gb-x-gbclan", "en-us+m2", "en-gb+f4"),
    seconds=300,
)
"""Five minutes with twenty names, by other voices: nothing is tuned by them."""
