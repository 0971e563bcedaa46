/** The tasks that come with the package: drawn pictures, seeded, offline; what the embedded models can be measured with. */
import type { Random } from '../drawing/random.ts';
import type { Kind } from '../drawing/scene.ts';
import { exactMatch, letterAccuracy, rougeL } from '../metrics.ts';
import type { Asked, QuestionType } from '../questions/index.ts';
import type { Task } from '../task.ts';
import { type DrawnOptions, drawnTask, type Recipe } from './drawn-task.ts';

export type { DrawnOptions } from './drawn-task.ts';

const exact = { metricName: 'exact match', metric: exactMatch, maxNewTokens: 16 };
const one = (kind: Kind) => () => [kind];
const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

/** Most pictures of a long context hold one drawing; the rest hold words, drawings in quadrants or copies to count. */
const mixed = (count: number) => (random: Random) => times(count, 0).map(() => random.pick<Kind>(['single', 'single', 'single', 'text']));

/** A colour is asked for by what stands before it, not by number. */
const byContent = ({ type, subject }: Asked): boolean => type !== 'colour' || subject !== undefined;

/** Retrieval by content and by number, several questions a context, so that few contexts make narrow intervals. */
const NEEDLES: readonly QuestionType[] = ['which', 'which', 'name', 'name', 'colour', 'colour'];

const needle = (numImages: number, numContexts: number, repeats: number): Recipe => ({
  ...exact,
  name: `needle-${numImages}`,
  about: `${numImages} pictures; which shows a thing, what one shows, the colour behind a thing`,
  numContexts,
  kinds: mixed(numImages),
  asks: times(repeats, NEEDLES).flat(),
  fits: byContent,
});

/** Questions about one packed context of many kinds: each needs something else of it. */
const FIVE: readonly Kind[] = ['single', 'single', 'single', 'single', 'places', 'count', 'text', 'text'];

/**
 * Sizes: with n questions answered at 90 %, the 95 % interval is +-1.96 sqrt(0.09 / n): +-1.9 points at 1000. Questions of one context are not
 * independent, so tasks with many a context ask more of them.
 */
const RECIPES: readonly Recipe[] = [
  { ...exact, name: 'name', about: 'one drawing; what is it', numContexts: 1000, kinds: one('single'), asks: ['name'] },
  {
    name: 'choice',
    about: "one picture, four options, answered with a letter (A-OKVQA's form)",
    metricName: 'letter accuracy',
    metric: letterAccuracy,
    maxNewTokens: 4,
    numContexts: 1000,
    kinds: (random) => [random.pick<Kind>(['single', 'single', 'places', 'count', 'text'])],
    asks: ['choice'],
  },
  {
    name: 'ocr',
    about: "one to three words in a picture, read as OCR-VQA's titles are",
    metricName: 'ROUGE-L',
    metric: rougeL,
    maxNewTokens: 24,
    numContexts: 1000,
    kinds: one('text'),
    asks: ['text'],
  },
  { ...exact, name: 'count', about: 'one to nine copies of a shape or drawing', numContexts: 1000, kinds: one('count'), asks: ['count'] },
  {
    ...exact,
    name: 'colour',
    about: "the background's colour, of eight",
    numContexts: 1000,
    kinds: (random) => [random.pick<Kind>(['single', 'places', 'count', 'text'])],
    asks: ['colour'],
  },
  {
    ...exact,
    name: 'place',
    about: 'two to four drawings in quadrants; what is where',
    numContexts: 600,
    kinds: one('places'),
    asks: ['place', 'place'],
  },
  {
    ...exact,
    name: 'needle-1',
    about: 'one picture; what it shows, the colour behind it',
    numContexts: 600,
    kinds: mixed(1),
    asks: ['colour', 'exists'],
  },
  needle(4, 250, 1),
  needle(16, 120, 2),
  needle(64, 40, 4),
  {
    ...exact,
    name: 'needle-frames-16',
    about: 'a clip of 16 frames; which shows a thing, what one shows, the colour behind a thing',
    numContexts: 120,
    kinds: () => times(16, 'single'),
    asks: times(2, NEEDLES).flat(),
    fits: byContent,
    isClip: true,
  },
  {
    ...exact,
    name: 'order',
    about: 'a clip of 8 frames; what comes right after or before, which comes first or last',
    numContexts: 250,
    kinds: () => times(8, 'single'),
    asks: times(4, 'order'),
    isClip: true,
  },
  {
    ...exact,
    name: 'five',
    about: 'eight pictures of all kinds; five questions: which, place, count, text, colour',
    maxNewTokens: 24,
    numContexts: 250,
    kinds: (random) => random.sample(FIVE, FIVE.length),
    asks: ['which', 'place', 'count', 'text', 'colour'],
  },
];

/** Tasks also measured in a drawing style and a font that no training saw. */
const WITH_STYLE = ['name', 'ocr', 'five'];

const ALL: readonly Recipe[] = [
  ...RECIPES,
  ...RECIPES.filter(({ name }) => WITH_STYLE.includes(name)).map(
    (recipe): Recipe => ({
      ...recipe,
      name: `${recipe.name}-style`,
      about: `${recipe.about}; a style and a font never trained on`,
      split: 'held-out',
    }),
  ),
];

/** Every built-in task by name, in the order of `--list`. Nothing is drawn before its contexts are asked for. */
export const DRAWN_TASKS: Readonly<Record<string, { readonly about: string; open(options?: DrawnOptions): Task }>> = Object.fromEntries(
  ALL.map((recipe) => [recipe.name, { about: recipe.about, open: (options?: DrawnOptions) => drawnTask(recipe, options) }]),
);

/** The recipes behind the tasks, for tests. */
export const RECIPES_OF_TASKS: readonly Recipe[] = ALL;
