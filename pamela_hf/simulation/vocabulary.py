"""The words of the simulated world: which phrases of a prompt set which visible trait to which value.

Everything here is invented for the offline demo. Scalar traits run from 0 to 1 (`SCALAR_TRAITS` says what the
ends look like); `group`, `style` and `type` take the names of the released ratings (DOMAIN: image_metadata).
The 26 style names are WikiArt's labels as the released ratings use them; one brush treatment serves a
`STYLE_FAMILY`.
"""

from __future__ import annotations

SCALAR_TRAITS: dict[str, tuple[str, str]] = {
    "warmth": ("cool blues", "warm reds and oranges"),
    "saturation": ("monochrome", "vivid"),
    "brightness": ("night", "high key"),
    "contrast": ("fog", "chiaroscuro"),
    "elevation": ("seen from below, low horizon", "seen from above, high horizon"),
    "closeness": ("distant, small subject", "close-up"),
    "density": ("empty", "crowded"),
    "symmetry": ("off-centre", "mirrored"),
    "roughness": ("smooth", "thick brushwork or grain"),
}
"""Scalar trait -> what 0 looks like, what 1 looks like."""

STYLE_FAMILY: dict[str, str] = {
    "Early_Renaissance": "classical", "High_Renaissance": "classical", "Northern_Renaissance": "classical",
    "Mannerism_Late_Renaissance": "classical", "Baroque": "classical", "Rococo": "classical",
    "Romanticism": "classical", "Realism": "classical", "Contemporary_Realism": "classical",
    "New_Realism": "classical", "Symbolism": "classical",
    "Impressionism": "impressionist", "Post_Impressionism": "impressionist", "Pointillism": "impressionist",
    "Expressionism": "expressionist", "Fauvism": "expressionist", "Abstract_Expressionism": "expressionist",
    "Art_Nouveau_Modern": "graphic", "Naive_Art_Primitivism": "graphic", "Pop_Art": "graphic",
    "Ukiyo_e": "graphic",
    "Cubism": "geometric", "Analytical_Cubism": "geometric", "Synthetic_Cubism": "geometric",
    "Color_Field_Painting": "field", "Minimalism": "field",
}  # fmt: skip
STYLES: tuple[str, ...] = tuple(sorted(STYLE_FAMILY))
FAMILIES: tuple[str, ...] = (
    "photo", "classical", "impressionist", "expressionist", "graphic", "geometric", "field",
)  # fmt: skip

STYLE_TENDENCY: dict[str, dict[str, float]] = {
    "Early_Renaissance": {"symmetry": 0.15, "contrast": -0.1},
    "High_Renaissance": {"symmetry": 0.15, "warmth": 0.1},
    "Northern_Renaissance": {"density": 0.1, "brightness": -0.1},
    "Mannerism_Late_Renaissance": {"symmetry": -0.1},
    "Baroque": {"brightness": -0.18, "contrast": 0.25, "warmth": 0.15},
    "Rococo": {"brightness": 0.18, "saturation": -0.05, "contrast": -0.1},
    "Romanticism": {"contrast": 0.15, "warmth": 0.1},
    "Symbolism": {"brightness": -0.1},
    "Impressionism": {"brightness": 0.12},
    "Post_Impressionism": {"saturation": 0.1},
    "Pointillism": {"saturation": 0.1, "brightness": 0.1},
    "Expressionism": {"contrast": 0.12, "saturation": 0.1},
    "Fauvism": {"saturation": 0.25},
    "Abstract_Expressionism": {"density": 0.1},
    "Pop_Art": {"saturation": 0.25, "contrast": 0.15},
    "Ukiyo_e": {"warmth": -0.1, "contrast": -0.1},
    "Analytical_Cubism": {"saturation": -0.25},
    "Synthetic_Cubism": {"saturation": 0.1},
    "Color_Field_Painting": {"density": -0.3, "saturation": 0.1},
    "Minimalism": {"density": -0.35, "saturation": -0.15},
}
"""Style -> how far it moves the default of a scalar trait that the prompt leaves open."""

FAMILY_ROUGHNESS: dict[str, float] = {
    "photo": 0.2, "classical": 0.4, "impressionist": 0.8, "expressionist": 0.75, "graphic": 0.3,
    "geometric": 0.5, "field": 0.3,
}  # fmt: skip
"""Style family -> mean roughness where the prompt leaves it open."""

VOCABULARY: dict[str, dict[str, float | str]] = {
    "warmth": {
        "warm palette": 0.9, "warm tones": 0.88, "warm colors": 0.9, "warm colours": 0.9, "warm light": 0.85,
        "earth tones": 0.72, "autumn colors": 0.85, "autumn colours": 0.85, "amber tones": 0.92,
        "golden hour": 0.9, "golden light": 0.9, "sunset": 0.92, "sunrise": 0.8, "candlelight": 0.95,
        "candlelit": 0.95, "firelight": 0.97, "sepia": 0.85, "fiery palette": 0.98,
        "neutral palette": 0.5, "neutral tones": 0.5, "teal and orange": 0.55,
        "cool palette": 0.1, "cool tones": 0.12, "cool colors": 0.1, "cool colours": 0.1, "cold light": 0.1,
        "blue hour": 0.08, "moonlight": 0.1, "moonlit": 0.1, "icy palette": 0.03, "winter light": 0.15,
        "teal tones": 0.2, "ocean tones": 0.12,
    },
    "saturation": {
        "vivid colors": 0.95, "vivid colours": 0.95, "vivid palette": 0.95, "vivid": 0.93, "vibrant": 0.92,
        "vibrant colors": 0.93, "vibrant colours": 0.93, "saturated": 0.95, "saturated colors": 0.96,
        "colorful": 0.88, "colourful": 0.88, "neon": 0.98, "bold colors": 0.92, "bold colours": 0.92,
        "jewel tones": 0.82, "rich colors": 0.8, "rich colours": 0.8, "natural colors": 0.5,
        "natural colours": 0.5,
        "earth tones": 0.4, "pastel palette": 0.32, "pastel colors": 0.32, "pastel colours": 0.32,
        "muted palette": 0.2, "muted tones": 0.2, "muted colors": 0.2, "muted colours": 0.2,
        "faded colors": 0.18, "faded colours": 0.18, "desaturated": 0.12, "sepia": 0.15,
        "monochrome": 0.02, "monochromatic": 0.04, "black and white": 0.0, "grayscale": 0.0, "greyscale": 0.0,
    },
    "brightness": {
        "bright": 0.85, "bright light": 0.88, "brightly lit": 0.88, "high key": 0.96, "sunlit": 0.8,
        "sunny": 0.82,
        "daylight": 0.75, "natural light": 0.66, "midday sun": 0.9, "airy": 0.88, "luminous": 0.86,
        "studio lighting": 0.72, "golden hour": 0.6, "golden light": 0.62, "overcast": 0.5, "sunrise": 0.55,
        "sunset": 0.42, "moody": 0.26, "moody lighting": 0.24, "dusk": 0.28, "twilight": 0.26,
        "blue hour": 0.28,
        "candlelight": 0.24, "candlelit": 0.24, "firelight": 0.22, "shadowy": 0.18, "dimly lit": 0.16,
        "moonlight": 0.14, "moonlit": 0.14, "dark": 0.12, "low key": 0.1, "night": 0.08, "at night": 0.08,
        "midnight": 0.04,
    },
    "contrast": {
        "high contrast": 0.95, "dramatic lighting": 0.92, "dramatic light": 0.92, "chiaroscuro": 0.98,
        "hard light": 0.88, "harsh light": 0.9, "spotlight": 0.88, "backlit": 0.8, "rim light": 0.78,
        "rim lighting": 0.78, "volumetric light": 0.7, "golden hour": 0.62, "natural contrast": 0.5,
        "soft light": 0.2, "soft lighting": 0.2, "soft shadows": 0.22, "diffused light": 0.12,
        "overcast": 0.15,
        "low contrast": 0.08, "flat lighting": 0.08, "hazy": 0.1, "misty": 0.06, "foggy": 0.03, "fog": 0.03,
        "mist": 0.06,
    },
    "elevation": {
        "worms eye view": 0.02, "low angle": 0.08, "low angle shot": 0.07, "low angle view": 0.08,
        "from below": 0.08, "looking up": 0.08, "low horizon": 0.14, "eye level": 0.42,
        "eye level view": 0.42,
        "eye level shot": 0.42, "straight on view": 0.42, "high angle": 0.8, "high angle shot": 0.8,
        "high angle view": 0.8, "high horizon": 0.84, "looking down": 0.86, "from above": 0.88,
        "overhead view": 0.95, "overhead shot": 0.95, "aerial view": 0.94, "drone shot": 0.94, "aerial": 0.94,
        "birds eye view": 0.97, "top down": 0.97, "top down view": 0.97, "flat lay": 0.98,
    },
    "closeness": {
        "extreme close up": 1.0, "macro": 0.97, "macro shot": 0.97, "detail shot": 0.93, "close up": 0.9,
        "closeup": 0.9, "tight framing": 0.88, "tight crop": 0.88, "telephoto": 0.72, "medium shot": 0.5,
        "medium view": 0.5, "full shot": 0.36, "wide angle": 0.18, "wide shot": 0.14, "wide view": 0.14,
        "long shot": 0.1, "establishing shot": 0.06, "distant view": 0.06, "from a distance": 0.06,
        "panoramic": 0.04, "panorama": 0.04, "panoramic view": 0.04,
    },
    "density": {
        "crowded": 0.96, "cluttered": 0.95, "bustling": 0.92, "teeming": 0.94, "dense": 0.88, "busy": 0.86,
        "abundant": 0.85, "lush": 0.8, "intricate": 0.8, "intricate detail": 0.8, "richly detailed": 0.8,
        "ornate": 0.78, "layered composition": 0.7, "some detail": 0.5, "simple composition": 0.18,
        "clean composition": 0.12, "uncluttered": 0.1, "sparse": 0.1, "solitary": 0.07, "minimal": 0.05,
        "minimalist": 0.05, "minimalist composition": 0.05, "negative space": 0.05, "empty": 0.02,
        "isolated": 0.05,
    },
    "symmetry": {
        "mirrored": 1.0, "perfect symmetry": 1.0, "symmetrical composition": 0.97, "symmetrical": 0.96,
        "symmetric": 0.96, "symmetric composition": 0.97, "symmetry": 0.95, "centered composition": 0.9,
        "centred composition": 0.9, "centered": 0.88, "centred": 0.88, "formal composition": 0.86,
        "balanced composition": 0.8, "candid framing": 0.22, "rule of thirds": 0.14,
        "dynamic composition": 0.12, "diagonal composition": 0.1, "off center": 0.07, "off centre": 0.07,
        "asymmetrical": 0.05, "asymmetric": 0.05, "asymmetrical composition": 0.04,
    },
    "roughness": {
        "impasto": 0.96, "thick brushstrokes": 0.95, "palette knife": 0.95, "visible brushstrokes": 0.88,
        "loose brushwork": 0.86, "expressive brushwork": 0.88, "textured": 0.76, "rough texture": 0.85,
        "charcoal drawing": 0.7, "pastel drawing": 0.68, "film grain": 0.6, "grainy": 0.66,
        "oil painting": 0.58,
        "gouache": 0.4, "watercolor": 0.46, "watercolour": 0.46, "ink drawing": 0.42, "fine brushwork": 0.24,
        "digital art": 0.12, "photograph": 0.14, "sharp focus": 0.08, "crisp": 0.08, "smooth": 0.05,
        "polished": 0.05, "airbrushed": 0.02, "3d render": 0.02,
    },
    "type": {
        "photograph": "Photorealism", "photo": "Photorealism", "photography": "Photorealism",
        "photorealistic": "Photorealism", "photorealism": "Photorealism", "photographic": "Photorealism",
        "film still": "Photorealism", "dslr": "Photorealism", "35mm": "Photorealism",
        "oil painting": "Art", "painting": "Art", "painted": "Art", "watercolor": "Art", "watercolour": "Art",
        "gouache": "Art", "ink drawing": "Art", "charcoal drawing": "Art", "pastel drawing": "Art",
        "drawing": "Art", "illustration": "Art", "digital art": "Art", "woodblock print": "Art",
        "fresco": "Art", "artwork": "Art", "impasto": "Art", "palette knife": "Art",
    },
    "style": {
        **{style.replace("_", " ").lower(): style for style in STYLES},
        "renaissance": "High_Renaissance", "mannerism": "Mannerism_Late_Renaissance",
        "mannerist": "Mannerism_Late_Renaissance", "romantic painting": "Romanticism",
        "romanticist": "Romanticism", "realist painting": "Realism", "symbolist": "Symbolism",
        "impressionist": "Impressionism", "post impressionist": "Post_Impressionism",
        "pointillist": "Pointillism", "expressionist": "Expressionism", "fauvist": "Fauvism",
        "abstract expressionist": "Abstract_Expressionism", "art nouveau": "Art_Nouveau_Modern",
        "naive art": "Naive_Art_Primitivism", "primitivism": "Naive_Art_Primitivism",
        "woodblock print": "Ukiyo_e", "cubist": "Cubism", "color field": "Color_Field_Painting",
        "colour field": "Color_Field_Painting",
    },
    "group": {},
}  # fmt: skip
"""Trait -> {phrase: value}. Phrases are lower case; hyphens, underscores and apostrophes of a prompt don't
count ("close-up" is "close up", "worm's-eye view" is "worms eye view"). A phrase may stand under several
traits."""

SUBJECTS: dict[str, tuple[str, ...]] = {
    "abstract": (
        "shapes and color",
        "interlocking forms",
        "circles and bars",
        "geometric forms",
        "abstract shapes",
    ),
    "animal": ("a cat", "a fox", "a dog", "a horse", "an owl", "a songbird", "a deer"),
    "architecture": ("a temple", "a cathedral", "a palace", "a colonnade", "a library facade"),
    "automotive": ("a car", "a sports car", "a vintage car", "a convertible"),
    "cinematic": ("a detective in the rain", "a lone astronaut", "a stranger with an umbrella", "a spy"),
    "cityscape": ("a skyline", "skyscrapers", "a city of towers", "a harbor city"),
    "fashion": ("a model in a gown", "a dress on the runway", "a woman in haute couture", "a fashion model"),
    "flower painting": ("a bouquet of peonies", "roses in a vase", "a vase of tulips", "sunflowers in a jug"),
    "food": ("a pizza", "a bowl of ramen", "a plate of pasta", "a breakfast plate", "a cake"),
    "landscape": ("mountains", "a mountain valley", "pine hills", "an alpine lake", "a meadow with hills"),
    "lifestyle": ("a friend on a sofa", "a reader at home", "a couple drinking tea", "a cosy living room"),
    "portrait": ("a portrait of a woman", "a portrait of a man", "a portrait of a child", "a face"),
    "product": ("a perfume bottle", "a wristwatch", "a skincare bottle", "a product shot of a bottle"),
    "scene": ("a cottage", "a farmhouse", "a village house", "a mill by the path"),
    "special": ("a ringed planet", "a galaxy", "a floating crystal", "a glowing orb"),
    "sports": ("a footballer", "a tennis player", "a basketball player", "a runner on the pitch"),
    "still life": ("a still life with fruit", "apples and a jug", "a fruit bowl", "pears on a table"),
    "street": ("a street", "an alley with lamps", "a road between houses", "a side street"),
    "travel": ("a sailboat", "a hot air balloon", "a tropical harbor", "a boat at sea"),
}
"""Group -> what a prompt of the world names as its subject."""

GROUPS: tuple[str, ...] = tuple(SUBJECTS)

_FURTHER_NOUNS: dict[str, str] = {
    "abstract": "abstract|shapes|circles|forms|interlocking forms|geometric shapes|abstraction",
    "animal": "animal|cat|kitten|fox|dog|puppy|horse|owl|songbird|bird|deer|wolf|lion|tiger|bear|rabbit",
    "architecture": "architecture|temple|cathedral|palace|colonnade|facade|building|church|museum|library",
    "automotive": "automotive|car|truck|motorcycle|convertible|sports car|vintage car|automobile",
    "cinematic": "cinematic|detective|astronaut|stranger|spy|movie scene|film still",
    "cityscape": "cityscape|skyline|skyscrapers|skyscraper|city|metropolis|towers|harbor city",
    "fashion": "fashion|gown|dress|runway|couture|haute couture|outfit|model in a gown",
    "flower painting": "flower painting|flowers|flower|bouquet|peonies|roses|rose|tulips|sunflowers|blossoms",
    "food": "food|pizza|ramen|pasta|breakfast|cake|meal|dish|burger|sushi|dessert|soup",
    "landscape": "landscape|mountains|mountain|valley|hills|alpine|meadow|forest|lake|river|desert",
    "lifestyle": "lifestyle|sofa|reader|friend|couple|living room|family|drinking tea",
    "portrait": "portrait|face|head and shoulders|self portrait",
    "product": "product|bottle|perfume|wristwatch|watch|skincare|product shot|headphones|sneaker",
    "scene": "scene|cottage|farmhouse|house|mill|barn|village|village house",
    "special": "special|planet|galaxy|crystal|orb|nebula|fantasy|ringed planet|fireworks",
    "sports": "sports|footballer|tennis|basketball|runner|athlete|soccer|tennis player|basketball player",
    "still life": "still life|fruit|apples|pears|jug|fruit bowl|lemons",
    "street": "street|alley|road|lane|side street|crosswalk",
    "travel": "travel|sailboat|balloon|boat|hot air balloon|ship|beach|island|tropical harbor|sea",
}
for _group, _nouns in _FURTHER_NOUNS.items():
    VOCABULARY["group"].update(dict.fromkeys(_nouns.split("|"), _group))
