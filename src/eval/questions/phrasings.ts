/** The fixed sentences of each sort of question, all lower case. */

/**
 * {k} is an image's number, {a} a thing with its article, {b} the bare name, {p} its plural, {v} its "is" or "are", {w} a word read, {n} a number, {c} a colour,
 * {q} a quadrant, {o} another thing. A form ending in "one" is for a context of a single image.
 */
export const PHRASINGS = {
  'name one': ['what is this?', 'what is in the image?', 'what do you see?', 'name this'],
  name: ['what is in image {k}?', 'what does image {k} show?', 'name image {k}', 'what do you see in image {k}?'],
  'colour one': ['what colour is the background?', 'what is the background colour?'],
  colour: ['what colour is the background of image {k}?', 'which colour is behind image {k}?', 'background colour of image {k}?'],
  'colour behind': ['what colour is behind the {b}?', 'which colour is the background of the {b}?'],
  'colour behind several': ['what colour is behind the {p}?', 'which colour is the background of the {p}?'],
  'colour behind word': ['what colour is behind the word {w}?', 'which colour is the background of the word {w}?'],
  'what at one': ['what is at the {q}?', 'what do you see at the {q}?'],
  'what at': ['what is at the {q} of image {k}?', 'what does image {k} show at the {q}?'],
  'where one': ['where {v} the {b}?', 'show the place of the {b}'],
  where: ['where {v} the {b} in image {k}?', 'show the place of the {b} in image {k}'],
  'count one': ['how many {p} are there?', 'count the {p}'],
  count: ['how many {p} are in image {k}?', 'how many {p} does image {k} show?', 'count the {p} in image {k}'],
  'count found': ['how many {p} are there?', 'how many {p} do you see?'],
  'text one': ['what does it say?', 'what does the image say?', 'read the text', 'what is written here?'],
  text: ['what does image {k} say?', 'read image {k}', 'what is written in image {k}?', 'which words are in image {k}?'],
  which: ['which image shows {a}?', 'which image has {a}?', 'which image contains {a}?', 'find the {b}'],
  'which several': ['which image shows {p}?', 'which image has {p}?', 'find the {p}'],
  'which count': ['which image shows {n}?', 'which image has {n}?'],
  'which word': ['which image says {w}?', 'which image has the word {w}?', 'find the word {w}'],
  'which colour': ['which image has the {c} background?', 'which image is {c}?'],
  exists: ['{v} there {a}?', 'do you see {a}?', 'does any image show {a}?'],
  'exists word': ['is there the word {w}?', 'does any image say {w}?'],
  list: ['list all images', 'list the images', 'name all images'],
  after: ['what comes right after the {b}?', 'what follows the {b}?'],
  before: ['what comes right before the {b}?', 'what is just before the {b}?'],
  first: ['which comes first, the {b} or the {o}?', 'what is shown first, the {b} or the {o}?'],
  last: ['which comes last, the {b} or the {o}?', 'what is shown last, the {b} or the {o}?'],
} as const;
export type Form = keyof typeof PHRASINGS;

/** A phrasing with its gaps filled. */
export function fill(phrasing: string, gaps: Readonly<Record<string, string | number>>): string {
  return phrasing.replace(/\{(\w)\}/g, (_, gap: string) => String(gaps[gap]));
}

export const LETTERS = ['A', 'B', 'C', 'D'] as const;

/** A multiple choice: the question, four options in one line, and what to answer with. */
export function withChoices(question: string, choices: readonly string[]): string {
  return `${question}\n${choices.map((choice, i) => `${LETTERS[i]}. ${choice}`).join(' ')}\nanswer with the letter`;
}
