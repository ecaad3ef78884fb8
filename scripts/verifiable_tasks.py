"""The tasks of the set "verifiable instructions": forms of request and what each can be about."""

from __future__ import annotations


def _list(text: str) -> list[str]:
    return [" ".join(entry.split()) for entry in text.split(";")]


CONCEPTS = _list("""photosynthesis; gravity; inflation; the water cycle; electricity; a solar eclipse;
    magnetism; friction; compound interest; evolution; the seasons; a rainbow; thunder; ocean tides;
    digestion; vaccination; recycling; composting; global warming; the food chain; DNA; atoms; black
    holes; volcanoes; earthquakes; fossils; migration of birds; hibernation; pollination; supply and
    demand; democracy; a budget; probability; fractions; prime numbers; the internet; a battery; a
    search engine; machine learning; encryption; radio waves; sound; the human heart; sleep; memory;
    allergies; the immune system; yeast; rust; glaciers""")
PLACES = _list("""a busy train station; a quiet library; a desert at night; a fishing harbour; a
    mountain village; an old lighthouse; a rainforest; a farmers' market; a frozen lake; a small bakery;
    a crowded beach; an airport; a football stadium; a castle; a city park in autumn; an island; a
    school playground; a hospital waiting room; a garden in spring; a museum; a ski resort; a canyon; a
    subway car; a coffee shop; a barn; a vineyard""")
THINGS_TO_LIST = _list("""ways to save water at home; healthy breakfast ideas; things to pack for a
    hike; games for a rainy day; tips for a job interview; ways to learn new words; uses for old
    newspapers; good habits for students; animals that live in the sea; vegetables that grow quickly;
    reasons to read books; ways to relax after work; kitchen tools for beginners; hobbies that cost
    nothing; safety rules for cycling; gifts for a grandparent; topics for a school project; exercises
    to do at a desk; things to see in a big city; ways to thank a friend; musical instruments; jobs that
    involve travel; ideas for a picnic; means of transport; ways to reduce food waste; questions to ask
    a new neighbour; kinds of weather; rules for a shared flat""")
MESSAGES = _list("""a neighbour about loud music; a teacher about a missed class; a landlord about a
    broken heater; a friend who passed an exam; a colleague who is leaving; a shop about a late
    delivery; a cousin about a wedding; a librarian about a lost book; a coach about a sore knee; a
    hotel about an early arrival; a customer about a refund; a team about a moved meeting; a grandmother
    about her birthday; a doctor's office about an appointment; a club about a new member; a mayor about
    a dangerous crossing; a restaurant about a lost umbrella; a classmate about a group project; a
    company about a summer job; a roommate about the dishes""")
QUESTIONS = _list("""Should schools start later in the morning; Should cities ban cars from their
    centres; Should homework be abolished; Should everyone learn to cook; Is it better to live in a city
    or a village; Should phones be allowed in class; Is it better to rent or to buy a home; Should zoos
    exist; Should museums be free; Is a four-day working week a good idea; Should children learn to
    code; Is it better to read a book or watch the film; Should plastic bags be banned; Is travelling
    alone a good idea; Should everyone learn a second language; Is it better to get up early; Should
    voting be required by law; Is working from home good for people; Should shops close on Sundays; Is
    space travel worth its cost; Should people keep diaries; Should sports be required at school""")
SITUATIONS = _list("""cannot fall asleep; wants to run a first marathon; is afraid of flying; has just
    moved to a new town; wants to spend less money; is learning to drive; has a noisy neighbour; wants
    to eat less sugar; is nervous before a speech; wants to adopt a dog; forgets names easily; wants to
    learn the guitar; has lost a passport; is starting university; wants to grow tomatoes; works too
    many hours; has a cold; wants to make new friends; is choosing a first bicycle; keeps missing
    deadlines; wants to read more; is planning a surprise party; wants to take better photographs; is
    bored at the weekend""")
STORIES = _list("""a cat who finds a key; a robot who learns to paint; a baker who loses her sense of
    smell; two brothers who build a boat; a girl who talks to the moon; an old sailor who returns home;
    a fox who cannot run; a teacher who finds a map; a dragon who is afraid of fire; a clock that runs
    backwards; a boy who collects sounds; a tree that remembers everything; a thief who gives things
    back; a postman with one last letter; a town where it never rains; a mouse who lives in a piano; a
    pilot who sees a strange light; a snowman in June; a queen who hates her crown; a ghost who is
    lonely""")
PRODUCTS = _list("""an umbrella that never turns inside out; a pair of hiking boots; a quiet vacuum
    cleaner; a folding bicycle; a solar lamp; a cookbook for students; a rainproof tent; a language
    course; a wooden toy train; an electric kettle; a pocket notebook; a warm winter coat; a bakery's
    new bread; a music festival; a city tour; a swimming class; a reusable bottle; a board game; a
    garden shovel; a bookshop""")
COMPARED = _list("""cats and dogs; tea and coffee; trains and planes; books and films; summer and
    winter; cities and villages; running and swimming; pencils and pens; rice and pasta; the Sun and the
    Moon; rivers and lakes; football and tennis; bicycles and cars; bees and wasps; butter and olive
    oil; violins and guitars; email and letters; wood and plastic; owls and eagles; apples and oranges;
    cash and cards; frogs and toads""")
COUNTRIES = _list("""France; Japan; Brazil; Egypt; Canada; Kenya; Norway; India; Mexico; Greece;
    Australia; Peru; Italy; Morocco; Vietnam; Poland; Iceland; Turkey; Portugal; Thailand; Argentina;
    Ireland; South Africa; Spain""")
SENTENCES = _list("""The old bridge was closed for repairs after the flood, so people had to take a
    ferry for months; Scientists found that birds living in noisy cities sing at a higher pitch than
    birds in the countryside; Although the shop was small, it sold everything from fresh bread to garden
    tools and bicycle parts; The committee agreed to plant two hundred trees along the main road before
    the end of the year; Because the train was late, Maria missed the first act of the play but enjoyed
    the rest of it; The new library lends not only books but also tools, board games and musical
    instruments; After three years of training, the young swimmer won a medal at the national
    championship; The farmer noticed that his sheep always gathered under the same oak before a storm;
    Many people drink coffee in the morning even though a short walk can wake them up just as well; The
    museum moved its oldest paintings to the cellar to protect them from the light; When the power
    failed, the neighbours cooked together on a camping stove in the courtyard; The city will replace
    its diesel buses with electric ones over the next five years; Every evening the lighthouse keeper
    wrote down the weather and the names of passing ships; The recipe needs only flour, water and salt,
    but the dough has to rest overnight; The children built a raft of barrels and rope and crossed the
    pond before lunch; A study of old letters shows that people complained about the weather in every
    century""")
PEOPLE = _list("""a child; a beginner; a new student; a grandparent; a friend; a curious teenager""")
POEMS = _list("""the sea; a first snowfall; a lost glove; the city at night; an old friend; autumn
    leaves; a train journey; bread; the wind; a garden snail; morning light; a broken cup; rain on a
    roof; the night sky""")

FORMS: list[tuple[str, list[str]]] = [
    ("Explain {} to {person}.", CONCEPTS),
    ("What is the main idea behind {}?", CONCEPTS),
    ("Give an example of {} in everyday life.", CONCEPTS),
    ("Describe {}.", PLACES),
    ("What might a visitor notice first in {}?", PLACES),
    ("Tell me about {}.", THINGS_TO_LIST),
    ("Suggest {}.", THINGS_TO_LIST),
    ("Write a short message to {}.", MESSAGES),
    ("Write a polite note to {}.", MESSAGES),
    ("{}? Give your view.", QUESTIONS),
    ("{}? Name one reason for and one against.", QUESTIONS),
    ("Give some advice to someone who {}.", SITUATIONS),
    ("Encourage a friend who {}.", SITUATIONS),
    ("Write a very short story about {}.", STORIES),
    ("Write the first lines of a tale about {}.", STORIES),
    ("Write an advertisement for {}.", PRODUCTS),
    ("Write a customer's review of {}.", PRODUCTS),
    ("Compare {}.", COMPARED),
    ("What is the biggest difference between {}?", COMPARED),
    ("What is {} known for?", COUNTRIES),
    ("Describe a typical meal in {}.", COUNTRIES),
    ("Say this in other words: {}.", SENTENCES),
    ("What can be learnt from this sentence? {}.", SENTENCES),
    ("Write a few lines about {}.", POEMS),
]
"""Forms with a gap for the subject (and sometimes for a person), each with the subjects that fit it."""

INCLUDED = _list("""light; water; people; because; simple; example; time; small; home; together;
    morning; change; energy; friend; story; green; today; world; learn; careful; quick; hand; first;
    idea; in fact; of course""")
EXCLUDED = _list("""important; people; many; very; can; you; also; this; it; with; for; will; from; or;
    good; make; that; not; all; some""")
REPEATED = _list("""good; new; people; time; day; way; think; great; water; small""")
OPENINGS = _list("""Here is; First; In short; Well; Once; Good question; I think; Today; The best; Let
    me""")
ENDINGS = _list("""Thank you.; That is all.; The end.; Good luck!; Any questions?; See you soon.;
    Enjoy!; What do you think?""")
KEYS = [("answer",), ("title", "text"), ("topic", "answer"), ("summary", "reason"), ("name", "note")]
