/** What goes wrong says so in one sentence, early, and leaves caches as they were; what is freed is gone. */
import { once } from 'node:events';
import fs, { cpSync, type ReadStream, readFileSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { AutoModelForImageTextToText, DynamicCache, type PreTrainedModel, type Tensor } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { WINDOW_SLOTS } from '../src/contract.ts';
import { numStores } from '../src/decode.ts';
import { AttentionPackError, PackedCache, type Prompt, packed, readModel, rewrite } from '../src/index.ts';
import { encodeModel } from '../src/onnx/index.ts';
import { InferenceSession } from '../src/ort.ts';
import { int64, removeFolder, temporaryFolder } from './support/models.ts';
import { ask, conversation, greedy, openTiny, type Packed, type Tiny } from './support/tiny.ts';

const CONTEXT = 120;
let tiny: Tiny;
let model: Packed;
let inputs: Prompt;

beforeAll(async () => {
  tiny = await openTiny({ contextLength: CONTEXT });
  model = await tiny.load({ rank: tiny.width });
  inputs = await conversation(tiny, [ask('What are these?', 2)], [1, 2]);
});
afterAll(() => tiny[Symbol.asyncDispose]());

/** The message of the error `run` ends with, which must be one of ours and one line. */
async function complaint(run: () => Promise<unknown>): Promise<string> {
  const error = await run().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(AttentionPackError);
  const { message } = error as Error;
  expect(message).not.toContain('\n');
  return message;
}

describe('a cache', () => {
  test('of another batch size is refused', async () => {
    await using cache = new PackedCache(model);
    await greedy(model, { ...inputs, past_key_values: cache }, 2);
    const pair = int64([1, 2].map(() => Array.from({ length: 80 }, () => 7)));
    expect(await complaint(() => model({ input_ids: pair, past_key_values: cache }))).toMatch(/holds 1 sequences, the input has 2/);
  });

  test('of another conversation is refused at the token that differs', async () => {
    await using cache = new PackedCache(model);
    await greedy(model, { ...inputs, past_key_values: cache }, 2);
    const other = await conversation(tiny, [ask('Whose are these pictures?', 2)], [1, 2]);
    expect(await complaint(() => greedy(model, { ...other, past_key_values: cache }))).toMatch(
      /another conversation: token 36 is \d+ .* and \d+/,
    );
    expect(await complaint(() => greedy(model, { ...inputs, past_key_values: cache }))).toMatch(/cache holds 51 tokens, the input 50/);
  });

  test('of another model, disposed, or not packed at all is refused', async () => {
    const other = await tiny.load({ rotary: 'post-rope' });
    const cache = new PackedCache(model);
    expect(await complaint(() => greedy(other, { ...inputs, past_key_values: cache }))).toMatch(/made for another model/);
    await cache.dispose();
    await cache.dispose();
    expect(cache.bytes).toBe(0);
    expect(await complaint(() => greedy(model, { ...inputs, past_key_values: cache }))).toMatch(/disposed; make a new one/);
    expect(await complaint(() => greedy(model, { ...inputs, past_key_values: new DynamicCache() }))).toMatch(/must be a PackedCache/);
  });

  test('used by two calls at once refuses the second and serves the first', async () => {
    await using cache = new PackedCache(model);
    const first = greedy(model, { ...inputs, past_key_values: cache });
    expect(await complaint(() => greedy(model, { ...inputs, past_key_values: cache }))).toMatch(/in use by another call/);
    expect(() => cache.crop(3)).toThrow(/in use by another call/);
    expect(await first).toEqual(await greedy(tiny.stock, inputs));
  });

  test('disposed while in use ends the call with an error and holds nothing', async () => {
    const cache = new PackedCache(model, { chunk: 4 });
    const quiet = vi.spyOn(console, 'error').mockImplementation(() => {}); // transformers.js prints the inputs of a failed run
    const run = complaint(() => greedy(model, { ...inputs, past_key_values: cache }));
    await cache.dispose();
    expect(await run).toMatch(/was disposed/);
    quiet.mockRestore();
    expect(cache.bytes).toBe(0);
  });

  test('does not crop into a packed image, nor to lengths that are none', async () => {
    await using cache = new PackedCache(model, { sink: 0 });
    await model({ ...inputs, past_key_values: cache });
    expect(() => cache.crop(10)).toThrow(/cannot crop to 10 tokens: those from 2 to 18 are packed together; keep 2, or 18 and more/);
    for (const length of [-1, 1.5, Number.NaN]) expect(() => cache.crop(length)).toThrow(/whole number/);
    cache.crop();
    expect(cache.get_seq_length()).toBe(34);
    cache.crop(18);
    expect(cache.report()).toMatchObject({ packedImages: 1, packedTokens: 16 });
  });

  test.each([1, 2, 3])('is as it was when run %d of a prefill fails', async (failing) => {
    await using cache = new PackedCache(model, { compactAt: 'span', chunk: 20 });
    const wanted = await greedy(tiny.stock, inputs);
    const start = await conversation(tiny, [ask('Hm')]);
    const whole = { ...inputs, input_ids: int64([[...rowOf(start.input_ids), ...rowOf(inputs.input_ids)]]), attention_mask: undefined };
    const truth = await greedy(tiny.stock, { ...whole, attention_mask: int64([new Array(whole.input_ids.dims[1]).fill(1)]) });
    for (const before of [undefined, start]) {
      if (before) await model({ ...before, past_key_values: cache });
      const [bytes, report] = [cache.bytes, cache.report()];
      await failingAt(failing, () => expect(model({ ...inputs, past_key_values: cache })).rejects.toThrow('out of paper'));
      expect({ ...cache.report(), compactMs: 0 }).toEqual({ ...report, compactMs: 0 });
      expect(cache.bytes).toBe(bytes);
      expect(await greedy(model, { ...(before ? whole : inputs), past_key_values: cache })).toEqual(before ? truth : wanted);
      cache.crop(0);
    }
  });
});

function rowOf(ids: Tensor): number[] {
  return Array.from(ids.data as BigInt64Array, Number);
}

/** Makes the packed decoder fail in its n-th run, while `run` goes on. */
async function failingAt(n: number, run: () => Promise<unknown>): Promise<void> {
  interface Runs {
    run(feeds: Record<string, unknown>): Promise<unknown>;
  }
  const { prototype } = InferenceSession as unknown as { prototype: Runs };
  const original = prototype.run;
  let runs = 0;
  const spy = vi.spyOn(prototype, 'run').mockImplementation(function (this: Runs, feeds) {
    if (WINDOW_SLOTS in feeds && ++runs === n) throw new Error('out of paper');
    return original.call(this, feeds);
  });
  const quiet = vi.spyOn(console, 'error').mockImplementation(() => {}); // transformers.js prints the inputs of a failed run
  try {
    await run();
  } finally {
    spy.mockRestore();
    quiet.mockRestore();
  }
}

describe('pictures and image tokens', () => {
  test('that do not match are refused before any is encoded', async () => {
    const three = (await conversation(tiny, [ask('', 3)], [1, 2, 3])).pixel_values;
    const words = await conversation(tiny, [ask('No picture here')]);
    const { pixel_values: two, ...without } = inputs;
    const encode = vi.spyOn(model, 'encode_image');
    expect(await complaint(() => greedy(model, { ...inputs, pixel_values: three }))).toMatch(
      /2 new images, but pixel_values has 3; give one for each/,
    );
    expect(await complaint(() => greedy(model, { ...words, pixel_values: two }))).toMatch(/0 new images, but pixel_values has 2/);
    expect(await complaint(() => greedy(model, without))).toMatch(/2 new images but no pixel_values/);
    const short = int64([rowOf(inputs.input_ids).filter((_, i) => i !== 10)]);
    expect(await complaint(() => greedy(model, { ...inputs, input_ids: short, attention_mask: undefined }))).toMatch(
      /31 image tokens stand side by side/,
    );
    await using cache = new PackedCache(model);
    await model({ ...inputs, past_key_values: cache });
    encode.mockClear();
    const more = int64([[...rowOf(inputs.input_ids), ...rowOf((await conversation(tiny, [ask('', 1)], [3])).input_ids)]]);
    const turn = { input_ids: more, pixel_values: two, past_key_values: cache };
    expect(await complaint(() => greedy(model, turn))).toMatch(
      /1 new images, behind 2 in the cache, but pixel_values has 2; give the 1 new ones or all 3/,
    );
    expect(encode).not.toHaveBeenCalled();
    encode.mockRestore();
  });

  test('of a prompt that outgrows the context are refused with the counts, before any is encoded', async () => {
    const long = await conversation(tiny, [ask('x'.repeat(100), 2)], [1, 2]);
    const encode = vi.spyOn(model, 'encode_image');
    const quiet = vi.spyOn(console, 'error');
    expect(await complaint(() => greedy(model, long))).toMatch(/^135 tokens .*exceed the model's context of 120/);
    expect(await complaint(() => model(long))).toMatch(/^135 tokens \(0 in the cache, 135 new\) exceed the model's context of 120/);
    expect(await complaint(() => greedy(model, inputs, 71))).toMatch(
      /^50 tokens of prompt and max_new_tokens 71 make 121, .*at most 70 new tokens/,
    );
    expect(encode).not.toHaveBeenCalled();
    expect(quiet).not.toHaveBeenCalled();
    expect((await greedy(model, inputs, 70))[0]?.length).toBeGreaterThan(0);
    encode.mockRestore();
    quiet.mockRestore();
  });
});

describe('loading', () => {
  const load = (options: Record<string, unknown>) => () => packed(AutoModelForImageTextToText, tiny.folder, { dtype: 'fp32', ...options });

  test.each([
    [{ rank: 65 }, /rank 65 exceeds the 64 columns of layer 0's keys; use rank <= 64/],
    [{ rank: { keys: 8, values: 100 } }, /rank 100 exceeds the 64 columns of layer 0's values/],
    [{ rank: 0 }, /rank of keys must be a whole number >= 1, got 0/],
    [{ rank: 2.5 }, /whole number >= 1, got 2.5/],
    [{ rotary: 'early' }, /rotary must be one of rotate-late, m-rope, post-rope; got 'early'/],
    [{ codes: 'int4' }, /codes must be one of float32, float16, int8, mixed; got 'int4'/],
    [{ compactAt: 'never' }, /compactAt must be one of context, span; got 'never'/],
    [{ chunk: 0 }, /chunk must be a whole number >= 1, got 0/],
    [{ sink: -1 }, /sink must be a whole number >= 0, got -1/],
  ])('with %o is refused and leaves no session', async (options, message) => {
    const [made, released] = [vi.spyOn(InferenceSession, 'create'), vi.spyOn(sessionPrototype(), 'release')];
    expect(await complaint(load(options))).toMatch(message);
    expect(released.mock.calls.length).toBe(made.mock.calls.length);
    made.mockRestore();
    released.mockRestore();
  });

  test('a model with a broken decoder leaves no session of its other parts', async () => {
    const root = temporaryFolder();
    cpSync(tiny.folder, root, { recursive: true });
    const decoder = path.join(root, 'onnx', 'decoder_model_merged.onnx');
    writeFileSync(decoder, readFileSync(decoder).subarray(0, 9_000));
    const [made, released] = [vi.spyOn(InferenceSession, 'create'), vi.spyOn(sessionPrototype(), 'release')];
    const refused = packed(AutoModelForImageTextToText, root, { dtype: 'fp32' });
    await expect(refused).rejects.toThrow(decoder);
    const sessions = await Promise.allSettled(made.mock.results.map((result) => result.value as Promise<unknown>));
    const numMade = sessions.filter((session) => session.status === 'fulfilled').length;
    expect(numMade).toBeGreaterThan(0);
    await vi.waitFor(() => expect(released.mock.calls.length).toBe(numMade));
    made.mockRestore();
    released.mockRestore();
    removeFolder(root);
  });

  test('reads weights once: what goes to ONNX Runtime beside the files is the graph alone', async () => {
    const file = path.join(tiny.folder, 'onnx', 'decoder_model_merged.onnx');
    const bytes = encodeModel(rewrite(readModel(file)).model.model).byteLength;
    // 64·64·(4 + 2 + …) weights in fp32 are over 100 kB; nodes, names and shapes of two layers a fraction of that.
    expect(statSync(file).size).toBeGreaterThan(250_000);
    expect(bytes).toBeLessThan(0.5 * statSync(file).size);
  });

  test('reads no weights into a stream that nobody takes from, as stock does', async () => {
    const opened = vi.spyOn(fs, 'createReadStream');
    const decoder = path.join(tiny.folder, 'onnx', 'decoder_model_merged.onnx');
    const bytesRead = async (load: () => Promise<PreTrainedModel>): Promise<number[]> => {
      opened.mockClear();
      await (await load()).dispose();
      const streams = opened.mock.results.map((result) => result.value as ReadStream).filter((stream) => stream.path === decoder);
      for (const stream of streams) if (!stream.closed) await once(stream, 'close');
      return streams.map((stream) => stream.bytesRead);
    };
    const { size } = statSync(decoder);
    for (const read of await bytesRead(load({}))) expect(read).toBeLessThan(size);
    // Once nothing is read here, transformers.js has mended it and src/unread.ts may go.
    expect(await bytesRead(() => AutoModelForImageTextToText.from_pretrained(tiny.folder, { dtype: 'fp32' }))).toEqual([size]);
    opened.mockRestore();
  });

  test('a cache with options of its own keeps the model’s for what is undefined', async () => {
    const low = await tiny.load({ rank: 5, chunk: 9 });
    await using cache = new PackedCache(low, { rank: undefined as never, sink: 0 });
    await low({ ...inputs, past_key_values: cache });
    expect(cache.report().ranks).toEqual({ keys: 5, values: 5 });
  });

  test('await using releases the sessions, and using the model after that is an error', async () => {
    let escaped: Packed | undefined;
    const released = vi.spyOn(sessionPrototype(), 'release');
    {
      await using scoped = await packed(AutoModelForImageTextToText, tiny.folder, { dtype: 'fp32' });
      await greedy(scoped as Packed, inputs, 2);
      escaped = scoped as Packed;
    }
    // Vision encoder, embedding and decoder, and the encoder's sessions.
    expect(released.mock.calls.length).toBeGreaterThanOrEqual(4);
    expect(await complaint(() => greedy(escaped as Packed, inputs, 2))).toMatch(/model was disposed/);
    await escaped.dispose();
    released.mockRestore();
  });

  test('nothing that these tests made and freed is still registered', () => {
    expect(numStores()).toBe(0);
  });
});

function sessionPrototype(): { release(): Promise<void> } {
  return (InferenceSession as unknown as { prototype: { release(): Promise<void> } }).prototype;
}
