/** Names of things in a sentence: with an article, and for several of them. */

/** Names that are plurals already. */
const PLURALS = new Set(
  (
    'thumbs up,thumbs down,books,cherries,chains,clapping hands,crossed fingers,dolls,eyes,fireworks,folded hands,footprints,fries,glasses,grapes,' +
    'headphones,heart eyes,jeans,knobs,noodles,pancakes,paw prints,peanuts,scissors,shopping bags,skis,sparkles,sunglasses,swords,theatre masks'
  ).split(','),
);

/** Names of what is not counted. */
const MASS = new Set(
  (
    'bacon,bamboo,bread,cheese,chocolate,coffee,corn,curry,fire,honey,meat,milk,popcorn,poop,pudding,rice,sheet music,stew,sushi,tea,wheat,' +
    'whiskey,wind,wine,beer,sake,oden,badminton,bowling,tennis,ping pong,ice hockey,shaved ice,zzz,nail polish,yin yang'
  ).split(','),
);

/** Names whose plural is no other word, or that have none: never counted. */
export const UNCOUNTED: ReadonlySet<string> = new Set([
  ...PLURALS,
  ...MASS,
  'biceps',
  // Their plurals are names of other drawings.
  'book',
  'eye',
  'nut and bolt',
  'sun and cloud',
  'fleur de lis',
  'star of david',
  'tongue out',
]);

const IRREGULAR: Readonly<Record<string, string>> = {
  bus: 'buses',
  die: 'dice',
  fish: 'fish',
  'tropical fish': 'tropical fish',
  blowfish: 'blowfish',
  leaf: 'leaves',
  'fallen leaf': 'fallen leaves',
  knife: 'knives',
  man: 'men',
  snowman: 'snowmen',
  woman: 'women',
  'old man': 'old men',
  'old woman': 'old women',
  mouse: 'mice',
  'computer mouse': 'computer mice',
  octopus: 'octopuses',
  cactus: 'cactuses',
  sheep: 'sheep',
  deer: 'deer',
  squid: 'squid',
  wolf: 'wolves',
};

/** "a violin", "an owl", "scissors". */
export function withArticle(name: string): string {
  if (PLURALS.has(name) || MASS.has(name)) return name;
  return /^([aeio]|um|ur|up|hour)/.test(name) ? `an ${name}` : `a ${name}`;
}

/** "is" or "are", as a name wants it. */
export const verb = (name: string): string => (PLURALS.has(name) ? 'are' : 'is');

/** "violins", "boxes", "cherries"; a name with several words takes the ending at its last. */
export function plural(name: string): string {
  if (Object.hasOwn(IRREGULAR, name)) return IRREGULAR[name] as string;
  if (PLURALS.has(name) || MASS.has(name)) return name;
  if (/(s|x|z|ch|sh)$/.test(name)) return `${name}es`;
  if (/[^aeiou]y$/.test(name)) return `${name.slice(0, -1)}ies`;
  if (/(potato|tomato|volcano)$/.test(name)) return `${name}es`;
  return `${name}s`;
}
