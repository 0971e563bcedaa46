/** Asks questions about a context of scenes. Every question has one right answer; what cannot be asked about a context is not asked. */
import { CONCEPTS } from '../drawing/assets.ts';
import type { Random } from '../drawing/random.ts';
import { COLOUR_NAMES, nameOf, PLACES, placeOf, type Scene } from '../drawing/scene.ts';
import { WORDS } from '../drawing/words.ts';
import { type Contents, counted, describe, type Found } from './contents.ts';
import { plural, verb, withArticle } from './names.ts';
import { type Form, fill, LETTERS, PHRASINGS, withChoices } from './phrasings.ts';

export const QUESTION_TYPES = ['name', 'colour', 'place', 'count', 'text', 'which', 'exists', 'list', 'choice', 'order'] as const;
export type QuestionType = (typeof QUESTION_TYPES)[number];

export interface Asked {
  readonly type: QuestionType;
  readonly question: string;
  readonly answer: string;
  /** The concept, shape or word that the question names, if it names one. */
  readonly subject?: string;
  /** Number of the image the answer lies in, from 1, if it is one image. */
  readonly image?: number;
  /** Options of a multiple choice. */
  readonly choices?: readonly string[];
}

/** A question before it is phrased; `others` are wrong answers of the same sort. */
interface Draft extends Omit<Asked, 'type' | 'question' | 'choices'> {
  readonly form: Form;
  readonly gaps: Readonly<Record<string, string | number>>;
  readonly others?: (random: Random) => string;
}

/** Longest context whose images are listed. */
const MAX_LISTED = 8;

/** A question of one type, or undefined if the context has nothing of the kind. */
export function ask(type: QuestionType, contents: Contents, random: Random): Asked | undefined {
  if (type === 'choice') return askChoice(contents, random);
  const draft = DRAFTS[type](contents, random);
  return draft && { type, question: phrase(draft, random), ...known(draft) };
}

function phrase({ form, gaps }: Draft, random: Random): string {
  return fill(random.pick<string>(PHRASINGS[form]), gaps);
}

const known = ({ answer, subject, image }: Draft) => ({
  answer,
  ...(subject !== undefined && { subject }),
  ...(image !== undefined && { image }),
});

type Drafter = (contents: Contents, random: Random) => Draft | undefined;

const DRAFTS: Readonly<Record<Exclude<QuestionType, 'choice'>, Drafter>> = {
  name: (contents, random) => {
    // Pictures of one thing are asked about most; the others are described.
    const single = contents.ofKind('single');
    const other = contents.ofKind('places', 'count');
    const images = single.length > 0 && (other.length === 0 || random.chance(0.8)) ? single : other;
    return images.length === 0 ? undefined : draftName(contents, random.pick(images), random);
  },
  colour: draftColour,
  place: draftPlace,
  count: draftCount,
  text: (contents, random) => {
    const images = contents.ofKind('text');
    if (images.length === 0) return;
    const image = random.pick(images);
    const words = (contents.scenes[image] as Scene).items.map(nameOf);
    return { ...byNumber(contents, 'text', image, {}, random), answer: words.join(' '), others: otherWords(words) };
  },
  which: draftWhich,
  exists: draftExists,
  list: ({ scenes }) =>
    scenes.length < 2 || scenes.length > MAX_LISTED ? undefined : { form: 'list', gaps: {}, answer: scenes.map(describe).join(', ') },
  order: draftOrder,
};

/** A form that names its image; in a context of one image mostly the form that does not. */
function byNumber(
  contents: Contents,
  form: 'name' | 'colour' | 'text' | 'count' | 'where' | 'what at',
  image: number,
  gaps: Draft['gaps'],
  random: Random,
) {
  const one = contents.scenes.length === 1 && random.chance(0.7);
  return { form: (one ? `${form} one` : form) as Form, gaps: { ...gaps, k: image + 1 }, image: image + 1 };
}

function draftName(contents: Contents, image: number, random: Random): Draft {
  const scene = contents.scenes[image] as Scene;
  return {
    ...byNumber(contents, 'name', image, {}, random),
    answer: describe(scene),
    others: scene.kind === 'single' ? otherConcept(contents) : undefined,
  };
}

function draftColour(contents: Contents, random: Random): Draft | undefined {
  const others = () => random.pick(COLOUR_NAMES);
  if (contents.scenes.length > 1 && random.chance(0.5)) {
    const found = pickFound([...contents.things, ...contents.words], random);
    if (found) return { ...behind(found), answer: found.scene.colour, image: found.image + 1, subject: found.name, others };
  }
  const image = random.below(contents.scenes.length);
  return { ...byNumber(contents, 'colour', image, {}, random), answer: (contents.scenes[image] as Scene).colour, others };
}

function behind({ name, scene }: Found): Pick<Draft, 'form' | 'gaps'> {
  if (scene.kind === 'text') return { form: 'colour behind word', gaps: { w: name } };
  return isSeveral(scene) ? { form: 'colour behind several', gaps: { p: plural(name) } } : { form: 'colour behind', gaps: { b: name } };
}

const isSeveral = (scene: Scene) => scene.kind === 'count' && scene.items.length > 1;

function draftPlace(contents: Contents, random: Random): Draft | undefined {
  const images = contents.ofKind('places');
  if (images.length === 0) return;
  const image = random.pick(images);
  const scene = contents.scenes[image] as Scene;
  const item = random.pick(scene.items);
  const [name, place] = [nameOf(item), placeOf(scene, item)];
  if (random.chance(0.5))
    return { ...byNumber(contents, 'what at', image, { q: place }, random), answer: name, others: otherConcept(contents) };
  return {
    ...byNumber(contents, 'where', image, { b: name, v: verb(name) }, random),
    answer: place,
    subject: name,
    others: () => random.pick(PLACES),
  };
}

function draftCount(contents: Contents, random: Random): Draft | undefined {
  const images = contents.ofKind('count');
  if (images.length === 0) return;
  const image = random.pick(images);
  const { items } = contents.scenes[image] as Scene;
  const name = nameOf(items[0] as Scene['items'][number]);
  const rest = { answer: String(items.length), subject: name, image: image + 1, others: () => String(1 + random.below(9)) };
  const isFound = contents.scenes.length > 1 && contents.things.some((thing) => thing.image === image);
  if (isFound && random.chance(0.3)) return { form: 'count found', gaps: { p: plural(name) }, ...rest };
  return { ...byNumber(contents, 'count', image, { p: plural(name) }, random), ...rest };
}

function draftWhich(contents: Contents, random: Random): Draft | undefined {
  const { scenes, things, words } = contents;
  if (scenes.length < 2) return;
  const others = () => `image ${1 + random.below(scenes.length)}`;
  const at = (image: number) => ({ answer: `image ${image + 1}`, image: image + 1, others });
  // What is unique in this context, by sort; a sort is drawn first, so that rare ones are asked about too.
  const counts = unique(contents.ofKind('count'), (image) => counted(scenes[image] as Scene));
  const colours = unique([...scenes.keys()], (image) => (scenes[image] as Scene).colour);
  const sort = random.uniform(0, 1);
  if (sort < 0.1 && colours.length > 0) {
    const [c, image] = random.pick(colours);
    return { form: 'which colour', gaps: { c }, ...at(image) };
  }
  if (sort < 0.2 && counts.length > 0) {
    const [n, image] = random.pick(counts);
    return { form: 'which count', gaps: { n }, ...at(image) };
  }
  if ((sort < 0.4 || things.length === 0) && words.length > 0) {
    const { name, image } = random.pick(words);
    return { form: 'which word', gaps: { w: name }, subject: name, ...at(image) };
  }
  const found = pickFound(things, random);
  if (!found) return;
  const { name, image, scene } = found;
  if (isSeveral(scene)) return { form: 'which several', gaps: { p: plural(name) }, subject: name, ...at(image) };
  return { form: 'which', gaps: { a: withArticle(name), b: name }, subject: name, ...at(image) };
}

/** Values that exactly one of the images has, each with its image. */
function unique(images: readonly number[], said: (image: number) => string): (readonly [string, number])[] {
  const having = new Map<string, number[]>();
  for (const image of images) having.set(said(image), [...(having.get(said(image)) ?? []), image]);
  return [...having].flatMap(([value, of]) => (of.length === 1 ? [[value, of[0] as number] as const] : []));
}

function draftExists(contents: Contents, random: Random): Draft | undefined {
  const isWord = contents.words.length > 0 && random.chance(0.2);
  const form = isWord ? 'exists word' : 'exists';
  const gaps = (name: string): Draft['gaps'] => (isWord ? { w: name } : { a: withArticle(name), v: verb(name) });
  if (random.chance(0.5)) {
    // One copy among others is "a star" as well; several are not asked about so.
    const found = pickFound(isWord ? contents.words : contents.things.filter(({ scene }) => !isSeveral(scene)), random);
    if (found)
      return {
        form,
        gaps: gaps(found.name),
        answer: `yes, image ${found.image + 1}`,
        subject: found.name,
        image: found.image + 1,
      };
  }
  const absent = isWord ? absentWord(contents, random) : absentConcept(contents, random);
  return { form, gaps: gaps(absent), answer: 'no', subject: absent };
}

function draftOrder(contents: Contents, random: Random): Draft | undefined {
  const singles = new Map(contents.things.flatMap(({ scene, image, name }) => (scene.kind === 'single' ? [[image, name]] : [])));
  const images = [...singles.keys()];
  if (random.chance(1 / 3)) {
    if (images.length < 2) return;
    const [one, other] = random.sample(images, 2) as [number, number];
    const isFirst = random.chance(0.5);
    const image = isFirst ? Math.min(one, other) : Math.max(one, other);
    const [b, o] = [singles.get(one) as string, singles.get(other) as string];
    return { form: isFirst ? 'first' : 'last', gaps: { b, o }, answer: singles.get(image) as string, subject: b, image: image + 1 };
  }
  const step = random.chance(0.5) ? 1 : -1;
  const asked = images.filter((image) => singles.has(image + step));
  if (asked.length === 0) return;
  const image = random.pick(asked);
  const b = singles.get(image) as string;
  return {
    form: step > 0 ? 'after' : 'before',
    gaps: { b },
    answer: singles.get(image + step) as string,
    subject: b,
    image: image + step + 1,
    others: otherConcept(contents),
  };
}

/** A-OKVQA's form: four options, answered with a letter. */
function askChoice(contents: Contents, random: Random): Asked | undefined {
  const types = random.sample(['name', 'name', 'colour', 'place', 'count', 'text', 'which', 'order'] as const, 8);
  for (const type of types) {
    const draft = DRAFTS[type](contents, random);
    if (!draft?.others || (type === 'which' && contents.scenes.length < LETTERS.length)) continue;
    const options = new Set([draft.answer]);
    while (options.size < LETTERS.length) options.add(draft.others(random));
    const choices = random.sample([...options], LETTERS.length);
    const answer = LETTERS[choices.indexOf(draft.answer)] as string;
    return { type: 'choice', question: withChoices(phrase(draft, random), choices), ...known(draft), answer, choices };
  }
  return undefined;
}

/** Wrong names: of other images every other time, else of nothing shown. */
function otherConcept(contents: Contents): (random: Random) => string {
  return (random) => {
    const shown = contents.things.length > 1 && random.chance(0.5) ? random.pick(contents.things).name : undefined;
    return shown ?? absentConcept(contents, random);
  };
}

/** As many other words, or the right ones but for one. */
function otherWords(words: readonly string[]): (random: Random) => string {
  return (random) => {
    const swapped = random.below(words.length);
    const allOther = random.chance(0.5);
    return words.map((word, i) => (allOther || i === swapped ? random.pick(WORDS) : word)).join(' ');
  };
}

function absentConcept(contents: Contents, random: Random): string {
  for (;;) {
    const name = random.pick(CONCEPTS);
    if (!contents.shows(name)) return name;
  }
}

function absentWord(contents: Contents, random: Random): string {
  for (;;) {
    const word = random.pick(WORDS);
    if (!contents.says(word)) return word;
  }
}

const pickFound = (found: readonly Found[], random: Random): Found | undefined => (found.length > 0 ? random.pick(found) : undefined);
