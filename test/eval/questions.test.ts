import { beforeAll, describe, expect, it } from 'vitest';
import { loadAssets, THINGS } from '../../src/eval/drawing/assets.ts';
import { type Random, seeded } from '../../src/eval/drawing/random.ts';
import { SceneSampler } from '../../src/eval/drawing/sample.ts';
import { KINDS, type Scene } from '../../src/eval/drawing/scene.ts';
import { type Asked, ask, Contents, corpusLines, LETTERS, QUESTION_TYPES } from '../../src/eval/questions/index.ts';
import { plural, withArticle } from '../../src/eval/questions/names.ts';
import { ambiguousPlurals, rightAnswers } from '../support/right-answers.ts';

let sampler: SceneSampler;
beforeAll(async () => {
  sampler = new SceneSampler(await loadAssets('held-out'), 'held-out');
}, 60_000);

/** Things may stand in several images here: what is then ambiguous must not be asked. */
const context = (numImages: number, random: Random): Scene[] =>
  Array.from({ length: numImages }, () => sampler.sample(random.pick(KINDS), 64, 64, random));

describe.each(QUESTION_TYPES)('questions of type %s', (type) => {
  it('have one right answer, as a plain reading of sentence and scenes finds it', () => {
    const random = seeded(7);
    let asked = 0;
    for (const [numImages, times] of [
      [1, 60],
      [2, 60],
      [4, 40],
      [8, 40],
      [40, 15],
      [120, 5],
    ] as const) {
      for (let i = 0; i < times; i++) {
        const scenes = context(numImages, random);
        const one = ask(type, new Contents(scenes), random);
        if (!one) continue;
        asked++;
        check(one, scenes);
      }
    }
    expect(asked).toBeGreaterThan(40);
  });

  it('are the same for the same seed', () => {
    const draw = () => {
      const random = seeded(11);
      const contents = new Contents(context(6, random));
      return Array.from({ length: 20 }, () => ask(type, contents, random));
    };
    expect(draw()).toEqual(draw());
  });
});

function check(one: Asked, scenes: readonly Scene[]): void {
  const [sentence = '', options] = one.question.split('\n');
  const right = rightAnswers(sentence, scenes);
  expect(right, one.question).toHaveLength(1);
  if (one.choices) {
    expect(options).toBe(one.choices.map((choice, i) => `${LETTERS[i]}. ${choice}`).join(' '));
    expect(
      one.choices.filter((choice) => choice === right[0]),
      one.question,
    ).toHaveLength(1);
    expect(one.answer).toBe(LETTERS[one.choices.indexOf(right[0] as string)]);
  } else {
    expect(one.answer, one.question).toBe(right[0]);
  }
  if (one.subject !== undefined) expect(THINGS).toContain(one.subject);
  if (one.image !== undefined) expect(scenes[one.image - 1]).toBeDefined();
}

describe('names', () => {
  it('have plurals that tell them apart', () => {
    expect(ambiguousPlurals()).toEqual([]);
  });

  it('take the article and the plural English gives them', () => {
    expect(['violin', 'owl', 'umbrella', 'unicorn', 'hourglass', 'scissors', 'rice'].map(withArticle)).toEqual([
      'a violin',
      'an owl',
      'an umbrella',
      'a unicorn',
      'an hourglass',
      'scissors',
      'rice',
    ]);
    expect(['star', 'box', 'cherry blossom', 'butterfly', 'monkey', 'mouse', 'cross', 'tomato', 'wheelchair'].map(plural)).toEqual([
      'stars',
      'boxes',
      'cherry blossoms',
      'butterflies',
      'monkeys',
      'mice',
      'crosses',
      'tomatoes',
      'wheelchairs',
    ]);
  });
});

it('the corpus holds every word of questions and answers', () => {
  const words = new Set([...corpusLines()].join('\n').match(/[a-z]+|[A-Z]|\d+/g));
  const random = seeded(3);
  for (let i = 0; i < 300; i++) {
    const contents = new Contents(context(1 + random.below(12), random));
    const one = ask(random.pick(QUESTION_TYPES), contents, random);
    for (const word of `${one?.question ?? ''} ${one?.answer ?? ''}`.match(/[a-z]+|[A-Z]|\d+/g) ?? [])
      expect(words.has(word), word).toBe(true);
  }
});
