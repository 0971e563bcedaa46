/** Eviction by what it does to logits: a cache without the evicted tokens gives what stock attention gives with them masked. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import type { PackedGraph } from '../src/cache/feeds.ts';
import { massName, PACKED_SLOTS, WINDOW_SLOTS } from '../src/contract.ts';
import type { Encoder } from '../src/encode/factor.ts';
import { DataType } from '../src/onnx/index.ts';
import { type CacheOptions, type EvictOptions, resolveCacheOptions, resolveEviction } from '../src/options.ts';
import { Tensor } from '../src/ort.ts';
import { POLICY_NAMES } from '../src/policies/index.ts';
import { chunkEnds, type Span } from '../src/prefill.ts';
import { rewrite } from '../src/rewrite.ts';
import type { RotaryMode } from '../src/shape.ts';
import { CacheStore } from '../src/store.ts';
import { decoderOutputs, FIRST_COLUMNS } from './cache/plain-store.ts';
import { EMBED, randomNumbers, tinyDecoder, VOCABULARY } from './support/decoders.ts';
import { floats, numbers, openSession } from './support/run.ts';

/** A prompt with two images, text around them, and single steps behind it. */
const SPANS: readonly Span[] = [
  { start: 5, end: 14 },
  { start: 16, end: 23 },
];
const PROMPT = 27;
const NUM_STEPS = 4;
/** Packing waits for this many newer tokens: for ever. */
const NEVER = 2 ** 30;

/** Every column kept: packing loses nothing, and only eviction is seen. */
const IDENTITY: Encoder = {
  factor: (rows, _numTokens, width) =>
    Promise.resolve({
      codes: rows.slice(),
      basis: Float32Array.from({ length: width * width }, (_, i) => (Math.floor(i / width) === i % width ? 1 : 0)),
      rank: width,
      lostEnergy: 0,
      singularValues: new Float32Array(width),
    }),
  extend: () => Promise.reject(new Error('no basis grows here')),
  dispose: () => Promise.resolve(),
};

interface Trial {
  readonly rotary?: RotaryMode;
  readonly options?: CacheOptions;
  readonly evict: EvictOptions;
}

/** Largest difference of logits to the twin, how far it is from the twin with nothing masked, and how many tokens are evicted in the end. */
async function run({ rotary = 'post-rope', options, evict }: Trial): Promise<{ worst: number; effect: number; store: CacheStore }> {
  const decoder = { givenPositions: true } as const;
  const { model, shape } = rewrite({ model: tinyDecoder(decoder), path: 'tiny.onnx' }, { rotary, mass: true });
  const graph: PackedGraph = { shape, rotary, codes: 'float32', basis: 'float32', mass: true, emptyTensors: true };
  const settings = resolveCacheOptions({ sink: 0, ...options, evict }, shape);
  const store = new CacheStore(graph, settings, () => Promise.resolve(IDENTITY));
  const session = await openSession(model.model);
  const [masked, unmasked] = [await openTwin(), await openTwin()];
  const random = randomNumbers(3);
  let [worst, effect] = [0, 0];
  for (let call = 0; call <= NUM_STEPS; call++) {
    const numTokens = call ? 1 : PROMPT;
    const spans = call ? [] : SPANS;
    store.begin(1, [spans], [new Array<number>(numTokens).fill(1)]);
    const first = store.numSlots;
    for (const to of chunkEnds(numTokens, [spans], settings.chunk, settings.compactAt)) {
      const at = store.numSlots;
      const numNew = first + to - at;
      const embeds = Float32Array.from({ length: numNew * EMBED }, random);
      const mask = [new Array<number>(numNew).fill(1)];
      const feeds = { ...store.feeds(), ...store.massQueries(numNew), attention_mask: store.mask(mask) };
      const held = new Set(
        [PACKED_SLOTS, WINDOW_SLOTS]
          .flatMap((name) => [...(((feeds as Record<string, Tensor>)[name] as Tensor).data as BigInt64Array)])
          .map(Number),
      );
      const outputs = await session.run({
        ...feeds,
        inputs_embeds: floats(DataType.FLOAT, embeds, [1, numNew, EMBED]),
        position_ids: new ort.Tensor(
          'int64',
          BigInt64Array.from({ length: numNew }, (_, n) => BigInt(at + n)),
          [1, numNew],
        ),
      } as never);
      const logits = numbers(outputs.logits);
      const wanted = await masked.step(embeds, (slot) => slot >= at || held.has(slot));
      const all = await unmasked.step(embeds, () => true);
      worst = logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - (wanted[i] as number))), worst);
      effect = logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - (all[i] as number))), effect);
      store.append(outputs as never, mask, [new Array<number>(numNew).fill(-1)]);
      await store.compact();
    }
    store.endRun();
  }
  await Promise.all([session.release(), masked.close(), unmasked.close()]);
  return { worst, effect, store };
}

/** ONNX Runtime's own attention over a dense past, with a bias that hides slots. */
async function openTwin() {
  const decoder = { givenPositions: true } as const;
  const session = await openSession(tinyDecoder({ ...decoder, bias: 'foreign' }));
  const names = session.inputNames.filter((name) => name.startsWith('past_key_values'));
  const empty = new ort.Tensor('float32', new Float32Array(0), [1, 2, 0, 16]);
  let past: Record<string, ort.Tensor> = Object.fromEntries(names.map((name) => [name, empty]));
  let at = 0;
  return {
    /** Logits [N, V] of the next tokens. */
    async step(embeds: Float32Array, isSeen: (slot: number) => boolean): Promise<Float32Array> {
      const numNew = embeds.length / EMBED;
      const bias = Float32Array.from({ length: numNew * (at + numNew) }, (_, i) => (isSeen(i % (at + numNew)) ? 0 : -1e30));
      const results = await session.run({
        ...past,
        bias: new ort.Tensor('float32', bias, [1, 1, numNew, at + numNew]),
        attention_mask: new ort.Tensor('int64', new BigInt64Array(at + numNew).fill(1n), [1, at + numNew]),
        inputs_embeds: floats(DataType.FLOAT, embeds, [1, numNew, EMBED]),
        position_ids: new ort.Tensor(
          'int64',
          BigInt64Array.from({ length: numNew }, (_, n) => BigInt(at + n)),
          [1, numNew],
        ),
      });
      past = Object.fromEntries(names.map((name) => [name, results[name.replace('past_key_values', 'present')] as ort.Tensor]));
      at += numNew;
      expect((results.logits as ort.Tensor).dims).toEqual([1, numNew, VOCABULARY]);
      return numbers(results.logits);
    },
    close: () => session.release(),
  };
}

describe('logits of a cache with evicted tokens are those of stock attention with them masked', () => {
  test.each(POLICY_NAMES.map((policy) => [policy] as const))('%s, of dense tokens', async (policy) => {
    const { worst, effect, store } = await run({ options: { recent: NEVER }, evict: { policy, keep: 5 } });
    expect(worst).toBeLessThan(1e-5);
    expect(effect).toBeGreaterThan(1e-2);
    expect(store.numEvicted()).toEqual({ tokens: 11, imageTokens: 11 });
    expect(store.packedTokens).toBe(0);
    expect(store.heldBytes()).toBe(store.footprint().total);
  });

  test.each([
    ['of packed tokens', { evict: { policy: 'snapkv', keep: 5 } }, 5],
    ['of packed tokens that share a basis', { options: { basisPer: 'context' }, evict: { policy: 'h2o', keep: 0.25 } }, 4],
    ['of packed tokens, keys turned late', { rotary: 'rotate-late', evict: { policy: 'key-norm', keep: 7 } }, 7],
    ['before packing', { evict: { policy: 'h2o', keep: 0.5, when: 'packing' } }, 8],
    [
      'before packing, image by image, keys turned late',
      { rotary: 'rotate-late', options: { compactAt: 'span', chunk: 6 }, evict: { policy: 'h2o', keep: 6, when: 'packing' } },
      6,
    ],
  ] as const)('%s', async (_, trial, numPacked) => {
    const { worst, effect, store } = await run(trial);
    expect(worst).toBeLessThan(1e-5);
    expect(effect).toBeGreaterThan(1e-2);
    expect(store.packedTokens).toBe(numPacked);
    expect(store.numEvicted()).toEqual({ tokens: 16 - numPacked, imageTokens: 16 - numPacked });
    expect(store.heldBytes()).toBe(store.footprint().total);
  });

  test('of all tokens at every step, text too', async () => {
    const { worst, effect, store } = await run({
      options: { chunk: 9, recent: NEVER },
      evict: { policy: 'h2o', keep: 10, when: 'always', of: 'all', sink: 2, recent: 3 },
    });
    expect(worst).toBeLessThan(1e-5);
    expect(effect).toBeGreaterThan(1e-2);
    expect(store.numEvicted().tokens).toBe(PROMPT + NUM_STEPS - 10);
  });
});

describe('a cache', () => {
  const shape = { layers: [{ index: 0, numHeads: 2, numKvHeads: 2, headDim: 2, rotary: 'inside' }], windowType: 'float32' } as const;
  const graph: PackedGraph = { shape, rotary: 'post-rope', codes: 'float32', basis: 'float32', emptyTensors: true };
  const open = (options: CacheOptions): CacheStore =>
    new CacheStore(graph, resolveCacheOptions({ rank: 2, sink: 0, ...options }, shape), () => Promise.resolve(FIRST_COLUMNS));
  const feed = async (store: CacheStore, numTokens: number, spans: readonly Span[] = []): Promise<void> => {
    const mask = [new Array<number>(numTokens).fill(1)];
    store.begin(1, [spans], mask);
    store.append(decoderOutputs(shape, 1, store.numSlots, numTokens), mask, [new Array<number>(numTokens).fill(7)]);
    await store.compact();
    store.endRun();
  };
  const held = (store: CacheStore): number[][] =>
    [PACKED_SLOTS, WINDOW_SLOTS].map((name) =>
      [...((store.feeds()[name] as Tensor).data as BigInt64Array)].map(Number).filter((slot) => slot >= 0),
    );

  test.each(['streaming-llm', 'key-norm', 'random'] as const)(
    'that evicts by %s and then reads text holds what one holds that reads the text first',
    async (policy) => {
      const rule: EvictOptions = { policy, keep: 0.4, when: 'asked' };
      for (const options of [{}, { recent: NEVER }]) {
        const [a, b] = [open({ ...options, evict: rule }), open({ ...options, evict: rule })];
        for (const store of [a, b]) await feed(store, 20, [{ start: 3, end: 18 }]);
        expect(a.evict(resolveEviction(rule, shape))).toBe(9);
        await feed(a, 6);
        await feed(b, 6);
        expect(b.evict(resolveEviction(rule, shape))).toBe(9);
        expect(held(a)).toEqual(held(b));
      }
    },
  );

  test('keeps the sink and the newest tokens even when that is more than asked', async () => {
    const store = open({ recent: NEVER, evict: { policy: 'random', keep: 2, of: 'all', sink: 3, recent: 4 } });
    await feed(store, 20);
    expect(held(store)[1]).toEqual([0, 1, 2, 16, 17, 18, 19]);
  });

  test('gives back the memory of evicted tokens, of codes and of a basis that has none left', async () => {
    const images = [
      { start: 2, end: 12 },
      { start: 12, end: 32 },
    ];
    const store = open({ evict: { policy: 'streaming-llm', keep: 8, when: 'asked', sink: 0 } });
    await feed(store, 33, images);
    const before = store.footprint();
    expect(store.evict(resolveEviction({ policy: 'streaming-llm', keep: 8, sink: 0 }, shape))).toBe(22);
    const after = store.footprint();
    // Two segments of 20 rows, the first padded, were left with one of 8; rank 2 of keys and of values, four bytes each.
    expect([before.codes, after.codes]).toEqual([2 * 20 * 4 * 4, 8 * 4 * 4]);
    expect(after.bases).toBe(before.bases / 2);
    expect(store.heldBytes()).toBe(after.total);
    expect(store.packedSpans).toBe(1);
  });

  test('with a share of each image gives all of their memory back, where images that compete leave some padded', async () => {
    const images = [
      { start: 0, end: 10 },
      { start: 10, end: 20 },
    ];
    const codes: number[] = [];
    for (const per of ['image', 'context'] as const) {
      const store = open({ evict: { policy: 'streaming-llm', keep: 0.6, per, sink: 0 } });
      await feed(store, 20, images);
      expect(store.packedTokens).toBe(12);
      codes.push(store.footprint().codes / 16);
    }
    expect(codes).toEqual([2 * 6, 2 * 10]);
  });

  test('still forgets what stands behind a slot, and takes images up to there for its own', async () => {
    const store = open({ evict: { policy: 'streaming-llm', keep: 3, sink: 0 } });
    await feed(store, 12, [{ start: 2, end: 10 }]);
    expect(() => store.crop(9)).toThrow('those from 2 to 10 are packed together');
    store.crop(store.packedEnd);
    expect(store.numSlots).toBe(10);
    expect(held(store)).toEqual([
      [7, 8, 9],
      [0, 1],
    ]);
    expect(store.nextPosition(0)).toBe(10);
    await feed(store, 9, [{ start: 1, end: 7 }]);
    expect(held(store)[0]).toEqual([14, 15, 16]);
    expect(store.numEvicted()).toEqual({ tokens: 11, imageTokens: 11 });
    store.crop(10);
    expect(store.numEvicted()).toEqual({ tokens: 8, imageTokens: 8 });
  });

  test.each(['h2o', 'snapkv', 'importance'] as const)('whose call fails is as it was, attention for %s included', async (policy) => {
    const watching = { ...graph, mass: true };
    const [failed, never] = [1, 2].map(() => {
      const options = resolveCacheOptions({ rank: 2, recent: NEVER, evict: { policy, keep: 3, when: 'asked', sink: 0 } }, shape);
      return new CacheStore(watching, options, () => Promise.resolve(FIRST_COLUMNS));
    }) as [CacheStore, CacheStore];
    const read = (store: CacheStore, numTokens: number, paid: readonly number[], spans: readonly Span[] = []): void => {
      const mask = [new Array<number>(numTokens).fill(1)];
      store.begin(1, [spans], mask);
      const columns = (store.feeds()[WINDOW_SLOTS] as Tensor).size + numTokens;
      const mass = new Tensor(
        'float32',
        Float32Array.from({ length: columns }, (_, c) => paid[c] ?? 0),
        [1, columns],
      );
      const outputs = { ...decoderOutputs(shape, 1, store.numSlots, numTokens), [massName(0)]: mass };
      store.append(outputs, mask, [new Array<number>(numTokens).fill(7)]);
    };
    for (const store of [failed, never]) {
      read(store, 6, [6, 1, 5, 2, 4, 3], [{ start: 0, end: 6 }]);
      store.endRun();
    }
    read(failed, 2, [0, 90, 0, 90, 0, 90]);
    failed.abandon(6);
    for (const store of [failed, never]) expect(store.evict(store.options.evict as never)).toBe(3);
    expect(held(failed)).toEqual(held(never));
    expect(failed.numSlots).toBe(6);
  });

  test('refuses policies by attention where the graph does not tell it, or nobody watched', () => {
    expect(() => open({ evict: { policy: 'h2o', keep: 4 } })).toThrow(
      "evict.policy 'h2o' goes by attention, which this model does not tell; load it with packed(.., { mass: true })",
    );
    const store = open({ evict: { policy: 'random', keep: 4 } });
    expect(() => store.evict(resolveEviction({ policy: 'key-norm', keep: 4 }, shape))).toThrow(
      "evict.policy 'key-norm' goes by what this cache did not watch; make it with evict: { policy: 'key-norm', keep: 4, when: 'asked' }",
    );
    expect(store.evict(resolveEviction({ policy: 'streaming-llm', keep: 4 }, shape))).toBe(0);
  });
});
