import { beforeAll, describe, expect, it } from 'vitest';
import { type Assets, CONCEPTS, FIRST_WORD, fontsOf, loadAssets, stylesOf, THINGS } from '../../src/eval/drawing/assets.ts';
import { mixSeed, seeded } from '../../src/eval/drawing/random.ts';
import { PATCH, render } from '../../src/eval/drawing/render.ts';
import { SceneSampler } from '../../src/eval/drawing/sample.ts';
import { COLOURS, KINDS, type Kind, type Scene } from '../../src/eval/drawing/scene.ts';
import { SHAPES, shapeTile } from '../../src/eval/drawing/shapes.ts';
import { WORDS } from '../../src/eval/drawing/words.ts';

let assets: Assets;
beforeAll(async () => {
  assets = await loadAssets('held-out');
}, 60_000);

/** One style and one font decode in a moment; all of what is tested is the same for the others. */
const scenesOf = (kind: Kind, count: number, width = 64, height = 64, seed = 1): Scene[] => {
  const sampler = new SceneSampler(assets, 'held-out');
  const random = seeded(mixSeed('test', kind, seed));
  return Array.from({ length: count }, () => sampler.sample(kind, width, height, random));
};

describe('what can be drawn', () => {
  it('holds at least 512 concepts and 400 words, each name once', () => {
    expect(CONCEPTS.length).toBeGreaterThanOrEqual(512);
    expect(new Set(CONCEPTS).size).toBe(CONCEPTS.length);
    expect(new Set(WORDS).size).toBe(400);
    expect(WORDS.every((word) => /^[a-z]{3,7}$/.test(word))).toBe(true);
    expect(CONCEPTS.every((name) => /^[a-z]+( [a-z]+){0,3}$/.test(name))).toBe(true);
    expect(THINGS.length).toBe(CONCEPTS.length + SHAPES.length + WORDS.length);
  });

  it('keeps styles and fonts of training apart from those held out', () => {
    expect(stylesOf('train').filter((style) => stylesOf('held-out').includes(style))).toEqual([]);
    expect(fontsOf('train').filter((font) => fontsOf('held-out').includes(font))).toEqual([]);
    expect([stylesOf('train').length, fontsOf('train').length]).toEqual([4, 4]);
  });

  it('gives every shape an area between a tenth and nine tenths of its tile', () => {
    for (const shape of SHAPES) {
      const covered = shapeTile(shape, 32).reduce((sum, value) => sum + value, 0) / (32 * 32 * 4 * 255);
      expect(covered, shape).toBeGreaterThan(0.1);
      expect(covered, shape).toBeLessThan(0.9);
    }
  });
});

describe.each(KINDS)('scenes of kind %s', (kind) => {
  it('are the same bytes for the same seed, and others for another', () => {
    const [first, again, other] = [scenesOf(kind, 20), scenesOf(kind, 20), scenesOf(kind, 20, 64, 64, 2)];
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    for (const scene of first) {
      const [one, same] = [render(scene, assets), render(JSON.parse(JSON.stringify(scene)) as Scene, assets)];
      expect(Buffer.from(one.pixels).equals(same.pixels)).toBe(true);
      expect([...same.labels]).toEqual([...one.labels]);
    }
  });

  it('have labels where ink is, in pictures of any shape', () => {
    for (const [width, height] of [
      [64, 64],
      [160, 96],
      [64, 144],
    ] as const) {
      for (const scene of scenesOf(kind, 15, width, height)) {
        const { pixels, labels } = render(scene, assets);
        const bare = render({ ...scene, items: [] }, assets);
        expect(pixels.length).toBe(width * height * 3);
        expect(bare.labels.every((label) => label === -1)).toBe(true);
        const shown = new Set(scene.items.map(({ thing }) => thing));
        for (const [patch, label] of labels.entries()) {
          if (label === -1) continue;
          expect(shown.has(label)).toBe(true);
          if (label < FIRST_WORD) expect(changedPixels(patch, width, pixels, bare.pixels)).toBeGreaterThanOrEqual(4);
        }
        if (kind !== 'count') for (const thing of shown) expect(labels.includes(thing), THINGS[thing]).toBe(true);
      }
    }
  });

  it('keep their things inside the picture, or nearly so', () => {
    for (const scene of scenesOf(kind, 100, 96, 64)) {
      for (const { x, y, size } of scene.items) {
        const [reach, slack] = kind === 'text' ? [0, 1] : [size / 2, size * 0.05 + 1];
        expect(x - reach).toBeGreaterThanOrEqual(-slack);
        expect(x + reach).toBeLessThanOrEqual(scene.width + slack);
        expect(y - (kind === 'text' ? size : reach)).toBeGreaterThanOrEqual(-slack);
        expect(y + reach).toBeLessThanOrEqual(scene.height + slack);
      }
    }
  });
});

describe('the sampler', () => {
  it('draws one to nine copies that do not overlap, in a colour unlike the background', () => {
    const counts = new Set<number>();
    for (const { items, colour } of scenesOf('count', 200)) {
      counts.add(items.length);
      for (const [i, a] of items.entries()) {
        expect(a.thing).toBe(items[0]?.thing);
        if (a.tint) expect(a.tint).not.toEqual(COLOURS[colour]);
        for (const b of items.slice(i + 1)) {
          expect(Math.max(Math.abs(a.x - b.x), Math.abs(a.y - b.y))).toBeGreaterThan(Math.min(a.size, b.size) * 0.95);
        }
      }
    }
    expect([...counts].sort()).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  it('puts different drawings into different quadrants', () => {
    for (const { items, width, height } of scenesOf('places', 100)) {
      expect(new Set(items.map(({ thing }) => thing)).size).toBe(items.length);
      expect(new Set(items.map(({ x, y }) => `${x < width / 2} ${y < height / 2}`)).size).toBe(items.length);
    }
  });

  it('writes words in rows that do not touch, at most as wide as the picture', () => {
    for (const { items } of scenesOf('text', 100)) {
      for (const [i, { y, size }] of items.entries()) {
        const above = items[i - 1];
        if (above) expect(y - size).toBeGreaterThan(above.y);
        expect(size).toBeGreaterThan(5);
      }
    }
  });
});

/** Pixels of the middle 4 x 4 of a patch that differ. */
function changedPixels(patch: number, width: number, pixels: Uint8Array, bare: Uint8Array): number {
  const top = Math.floor(patch / (width / PATCH)) * PATCH + 2;
  const left = (patch % (width / PATCH)) * PATCH + 2;
  return Array.from({ length: 16 }, (_, i) => ((top + (i >> 2)) * width + left + (i & 3)) * 3).filter(
    (at) => pixels[at] !== bare[at] || pixels[at + 1] !== bare[at + 1] || pixels[at + 2] !== bare[at + 2],
  ).length;
}
