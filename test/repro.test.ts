/** The reproduction apart from its measuring: settings, sizes, what fits a budget, what is kept, and the page. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { framesThatFit } from '../bench/repro/fit.ts';
import { Kept } from '../bench/repro/kept.ts';
import { pageOf, writePage } from '../bench/repro/page.ts';
import { PART_NAMES } from '../bench/repro/part.ts';
import { fitAll } from '../bench/repro/parts/frames.ts';
import { rowOf } from '../bench/repro/parts/latency.ts';
import { PARTS } from '../bench/repro/parts.ts';
import { finished, keptFolder, newest, save } from '../bench/repro/results.ts';
import { combinations, frameSettings, latencySettings, namesOf, rankSettings, tierSettings } from '../bench/repro/settings.ts';
import { FULL, sizesOf } from '../bench/repro/sizes.ts';
import { lostApart, meanCurves } from '../bench/repro/spectra.ts';
import { toRows } from '../bench/repro/steps.ts';
import { duration, RunTime } from '../bench/repro/time.ts';
import { PACKAGE_ROOT } from '../src/cli/embedded.ts';
import { parseSettings } from '../src/eval/settings.ts';
import { removeFolder, temporaryFolder } from './support/models.ts';
import { everyPart, result, row, SUBJECT } from './support/repro.ts';

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});
afterEach(() => removeFolder(root));

describe('settings', () => {
  const subjects = [SUBJECT, { ...SUBJECT, width: 128, readsClips: true }, { ...SUBJECT, width: 4096 }, { ...SUBJECT, width: 16 }];

  test.each(subjects)('every list can be read, none asks for a rank above width $width, and names are their own', (subject) => {
    const lists = [
      rankSettings(subject).map(({ setting }) => setting),
      combinations(subject).map(({ setting }) => setting),
      frameSettings(subject),
      latencySettings(subject),
    ];
    for (const list of lists) {
      const names = namesOf(list);
      expect(new Set(names).size).toBe(names.length);
      expect(namesOf(names)).toEqual(names);
      for (const setting of parseSettings(names.join(','))) {
        if (setting.kind !== 'packed' || typeof setting.options.rank !== 'number') continue;
        expect(setting.options.rank, setting.name).toBeLessThanOrEqual(subject.width);
      }
    }
  });

  test('tiers are asked for keys, values and both, at every r1 and at the two ends', () => {
    const settings = tierSettings();
    for (const of of ['keys', 'values', 'both']) {
      expect(settings.filter((entry) => entry.of === of).map(({ share }) => share)).toEqual([0, 0.125, 0.25, 0.375, 0.5, 1]);
    }
    // The ends need no tiers: those of the second tier's rank on one side or both, and of the first's.
    const ends = settings.filter(({ share }) => share === 0 || share === 1).map(({ setting }) => setting);
    expect(new Set(ends.map((setting) => /rank=([\d/]+)/.exec(setting)?.[1]))).toEqual(new Set(['4/16', '16/4', '4/4', '16']));
    expect(() => namesOf(ends)).not.toThrow();
  });

  test('eviction is always beside its control', () => {
    const policies = combinations(SUBJECT).filter(({ family }) => family === 'eviction');
    expect(policies.some(({ setting }) => setting.includes('random'))).toBe(true);
    expect(frameSettings(SUBJECT).some((setting) => setting.includes('evict:random'))).toBe(true);
  });
});

test('a limit makes every part smaller, and the parts are in the order of their names', () => {
  const one = sizesOf(1);
  expect(one.frames.length).toBeGreaterThan(0);
  expect(one.frames.every(({ contexts }) => contexts === 1)).toBe(true);
  expect(one.latency.blocks * one.latency.perBlock).toBeLessThan(FULL.latency.blocks * FULL.latency.perBlock);
  expect(one.quality).toBe(1);
  expect(sizesOf(undefined)).toBe(FULL);
  expect(FULL.latency.blocks * FULL.latency.perBlock).toBe(100);
  expect(PARTS.map(({ name }) => name)).toEqual([...PART_NAMES]);
});

describe('frames that fit', () => {
  test('are those of a search through every number', () => {
    const cell = fc.record({
      setting: fc.constantFrom('a', 'b'),
      frames: fc.integer({ min: 1, max: 64 }),
      bytes: fc.integer({ min: 0, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(cell), fc.integer({ min: 0, max: 110 }), (cells, budget) => {
        let most = 0;
        for (let frames = 64; frames >= 1 && !most; frames--) {
          if (cells.some((other) => other.setting === 'a' && other.frames === frames && other.bytes <= budget)) most = frames;
        }
        expect(framesThatFit(cells, 'a', budget)?.frames ?? 0).toBe(most);
      }),
    );
  });

  test('budgets are those of dense caches, and a cache too large for one has no frames there', () => {
    const { score } = row('dense', 0);
    const cells = [4, 8, 16, 32].flatMap((frames) => [
      { setting: 'dense', frames, bytes: 100 * frames, score },
      { setting: 'small', frames, bytes: 30 * frames, score },
      { setting: 'large', frames, bytes: 150 * frames, score },
    ]);
    const fitted = (setting: string): unknown[] =>
      fitAll(cells).flatMap((entry) => (entry.setting === setting ? [entry.cell?.frames] : []));
    expect(fitted('dense')).toEqual([4, 8, 16]);
    expect(fitted('small')).toEqual([8, 16, 32]);
    expect(fitted('large')).toEqual([undefined, 4, 8]);
  });
});

describe('images and text apart', () => {
  const energies = (...values: number[]): Float64Array => Float64Array.from(values);

  test('are given the two ranks that lose least, as a search through all pairs finds', () => {
    const list = fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1, maxLength: 6 }).map((values) => values.sort((a, b) => b - a));
    fc.assert(
      fc.property(list, list, fc.integer({ min: 0, max: 6 }), (a, b, rank) => {
        const [tokensA, tokensB, width] = [5, 9, 7];
        const rest = (values: readonly number[], kept: number): number => values.slice(kept).reduce((sum, value) => sum + value, 0);
        const total = rest(a, 0) + rest(b, 0);
        let least = 1;
        for (let i = 0; i <= a.length; i++) {
          for (let j = 0; j <= b.length; j++) {
            if (i * (tokensA + width) + j * (tokensB + width) > rank * (tokensA + tokensB + width)) continue;
            least = Math.min(least, total ? (rest(a, i) + rest(b, j)) / total : 0);
          }
        }
        const lost = lostApart({ energies: energies(...a), tokens: tokensA }, { energies: energies(...b), tokens: tokensB }, width, rank);
        expect(lost).toBeCloseTo(least, 12);
      }),
    );
  });

  test('a mean takes matrices of a lower full rank as losing nothing beyond it', () => {
    const curve = (...lost: number[]) =>
      ({
        side: 'values',
        group: 'text',
        tokens: 4,
        points: lost.map((combined, i) => ({ rank: i + 1, combined, heads: combined })),
      }) as const;
    const [mean] = meanCurves([curve(0.5, 0.2, 0.1), curve(0.3)]);
    expect(mean?.points.map(({ combined, least, most }) => [combined, least, most])).toEqual([
      [0.4, 0.3, 0.5],
      [0.1, 0, 0.2],
      [0.05, 0, 0.1],
    ]);
  });
});

describe('what is finished', () => {
  test('steps are read back, also behind a line cut short, and are not done again', async () => {
    const first = new Kept(path.join(root, 'steps'));
    expect(await first.once('a', async () => ({ ms: 1 }))).toEqual({ ms: 1 });
    await first.once('b', async () => 2);
    const file = path.join(root, 'steps', 'steps.jsonl');
    writeFileSync(file, `${readFileSync(file, 'utf8')}{"step":"c","val`);
    const second = new Kept(path.join(root, 'steps'));
    expect([second.has('a'), second.has('b'), second.has('c')]).toEqual([true, true, false]);
    const again = async (): Promise<never> => expect.fail('was done already');
    expect(await second.once('a', again)).toEqual({ ms: 1 });
    expect(await second.once('c', async () => 3)).toBe(3);
    expect(await new Kept(path.join(root, 'steps')).once('c', again)).toBe(3);
  });

  test('a step that fails is not kept', async () => {
    const kept = new Kept(root);
    await expect(kept.once('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(kept.has('a')).toBe(false);
  });

  test('a result stands for the same question of the same weights alone, whatever its date', () => {
    const one = result('rank', { x: 1 });
    save(root, one);
    save(root, result('rank', { x: 2 }, { date: '2025-12-31T00:00:00.000Z', asked: { contexts: 3 } }));
    expect(finished(root, SUBJECT, 'rank', { contexts: 2 })).toEqual(one);
    expect(finished(root, SUBJECT, 'tiers', { contexts: 2 })).toBeUndefined();
    expect(finished(root, SUBJECT, 'rank', { contexts: 4 })).toBeUndefined();
    const other = { ...SUBJECT, identity: { ...SUBJECT.identity, fingerprint: 'f' } };
    expect(finished(root, other, 'rank', { contexts: 2 })).toBeUndefined();
    expect(keptFolder(root, other, 'rank', { contexts: 2 })).not.toBe(keptFolder(root, SUBJECT, 'rank', { contexts: 2 }));
    expect(keptFolder(root, SUBJECT, 'rank', { a: 1, b: 2 })).toBe(keptFolder(root, SUBJECT, 'rank', { b: 2, a: 1 }));
    expect(newest(root)).toEqual([one]);
    expect(readdirSync(root).sort()).toEqual(['2025-12-31-repro-made-up-rank.json', '2026-01-02-repro-made-up-rank.json']);
  });
});

test('times are medians, and ratios to dense of the same round', () => {
  const rounds = [
    { dense: [10, 10, 10], packed: [5, 5, 50] },
    { dense: [40, 40, 40], packed: [10, 10, 10] },
  ];
  expect(toRows(rounds)).toEqual([
    { setting: 'dense', msPerToken: 25, timesFaster: { median: 1, least: 1, most: 1 } },
    { setting: 'packed', msPerToken: 10, timesFaster: { median: 3, least: 2, most: 4 } },
  ]);
});

test('latency is cumulated over blocks, and answers are compared with the dense ones', () => {
  const blocks = [
    { dense: { ms: 100, answers: [['1', '2']] }, packed: { ms: 50, answers: [['1', '2']] } },
    { dense: { ms: 100, answers: [['3']] }, packed: { ms: 25, answers: [['4', '5']] } },
  ];
  const packed = rowOf({ setting: 'packed', prefillMs: 1, heldBytes: 2 }, blocks);
  expect(packed).toMatchObject({ cumulativeMs: [50, 75], tokens: 4, same: 1, timesFaster: { median: 3, least: 2, most: 4 } });
});

test('the time left falls to nothing with the last part', () => {
  const time = new RunTime([2, 3]);
  expect(time.secondsLeft(2, 0)).toBeGreaterThan(time.secondsLeft(2, 1));
  time.finish(2);
  time.finish(3);
  expect(time.secondsLeft(3, 0)).toBe(0);
  expect([duration(30), duration(600)]).toEqual(['30 s', '10 min']);
});

describe('the page', () => {
  test('has a section, a plot and a table for every part, and says what it was measured on', async () => {
    const files = await pageOf(everyPart(), '../results');
    const page = files['README.md'] ?? '';
    for (const part of PART_NAMES) {
      expect(files[`${part}.svg`], part).toMatch(/^<svg/);
      expect(page).toContain(`](${part}.svg)`);
      expect(page).toContain(`[JSON](../results/2026-01-02-repro-made-up-${part}.json)`);
    }
    expect(page).toContain('Abacus');
    expect(page).toContain('`0123456789ab`');
    expect(page).not.toMatch(/NaN|undefined|Infinity|Not measured yet/);
    expect(page.match(/<details>/g)).toHaveLength(PART_NAMES.length);
    expect(page).toContain('made-up in the memory of 16 dense pictures: `dense` holds 16 pictures');
    expect(page).toContain(
      '20 queries take stock transformers.js 10.0 s, our graph with nothing packed 5.0 s, `packed:8` 3.3 s with 90.0 % of the answers the same',
    );
    // The same results give the same text, plots included.
    expect(await pageOf(everyPart(), '../results')).toEqual(files);
  });

  test('is whole with some parts, or none, and warns of different weights', async () => {
    const none = await pageOf([], '.');
    expect(Object.keys(none)).toEqual(['README.md']);
    expect(none['README.md']?.match(/Not measured yet/g)).toHaveLength(PART_NAMES.length);
    const [variance, tiers, rank] = everyPart();
    if (!variance || !tiers || !rank) return expect.fail('three results');
    const mixed = await pageOf([variance, tiers, { ...rank, model: { ...rank.model, fingerprint: 'other' } }], '.');
    expect(mixed['README.md']).toContain('Results of made-up are of different weights');
  });

  test('that is committed is what the committed results give', async () => {
    const folder = path.join(PACKAGE_ROOT, 'bench', 'repro');
    const files = await pageOf(newest(path.join(PACKAGE_ROOT, 'bench', 'results')), '../results');
    for (const [name, text] of Object.entries(files)) expect(readFileSync(path.join(folder, name), 'utf8'), name).toBe(text);
    const plots = readdirSync(folder).filter((name) => name.endsWith('.svg'));
    expect(plots.filter((name) => !Object.hasOwn(files, name))).toEqual([]);
  });

  test('is written whole beside its plots, with links to where the results lie', async () => {
    for (const one of everyPart()) save(path.join(root, 'results'), one);
    const file = await writePage(path.join(root, 'page'), path.join(root, 'results'));
    expect(readFileSync(file, 'utf8')).toContain('[JSON](../results/2026-01-02-repro-made-up-rank.json)');
    expect(existsSync(path.join(root, 'page', 'rank.svg'))).toBe(true);
    expect(readdirSync(path.join(root, 'page')).filter((name) => name.endsWith('.part'))).toEqual([]);
  });
});
