/** Conversations, streaming, sampling and stopping: whatever `generate` of the stock model does, the packed one does at full rank. */
import {
  BaseStreamer,
  cat,
  InterruptableStoppingCriteria,
  LogitsProcessor,
  LogitsProcessorList,
  random,
  StoppingCriteria,
  Tensor,
} from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numStores } from '../src/decode.ts';
import { type Message, PackedCache, type Prompt } from '../src/index.ts';
import { EOS, IMAGE_TOKEN, int64 } from './support/models.ts';
import {
  ask,
  conversation,
  expectClose,
  floats,
  generate,
  greedy,
  leftPadded,
  logitsOf,
  newTokens,
  openTiny,
  type Packed,
  type Tiny,
} from './support/tiny.ts';

let tiny: Tiny;
let model: Packed;
let inputs: Prompt;

beforeAll(async () => {
  tiny = await openTiny();
  model = await tiny.load({ rank: tiny.width });
  inputs = await conversation(tiny, [ask('What are these?', 2)], [1, 2]);
});
afterAll(() => tiny[Symbol.asyncDispose]());

/** Ids of a conversation so far, an answer and what is asked next, with whatever tokens the answer has. */
function followed(before: Tensor, next: Prompt): Prompt {
  const input_ids = cat([before, next.input_ids], 1);
  return { input_ids, attention_mask: int64([new Array<number>(input_ids.dims[1] ?? 0).fill(1)]) };
}

describe('a later turn', () => {
  let first: Tensor;
  let second: Prompt;
  let wanted: number[][];
  const messages: Message[] = [ask('And this?', 1)];

  beforeAll(async () => {
    first = await generate(tiny.stock, { ...inputs, max_new_tokens: 5, do_sample: false });
    const next = await conversation(tiny, messages, [3]);
    const { pixel_values } = await conversation(tiny, [ask('', 3)], [1, 2, 3]);
    second = { ...followed(first, next), ...(pixel_values && { pixel_values }) };
    wanted = await greedy(tiny.stock, second, 8);
  });

  test.each(['all pictures', 'only the new one', 'all pictures and no mask'])(
    'that adds an image goes on as one long prompt with %s',
    async (which) => {
      await using cache = new PackedCache(model, { compactAt: 'span', chunk: 13 });
      await generate(model, { ...inputs, past_key_values: cache, max_new_tokens: 5, do_sample: false });
      expect(cache.report().packedImages).toBe(2);
      const pixels = which === 'only the new one' ? second.pixel_values?.slice([2, 3]) : second.pixel_values;
      const { attention_mask, ...unmasked } = second;
      const given = which.endsWith('no mask') ? unmasked : { ...unmasked, attention_mask };
      expect(await greedy(model, { ...given, pixel_values: pixels, past_key_values: cache }, 8)).toEqual(wanted);
      expect(cache.report().packedImages).toBe(3);
      expect(cache.bytes).toBe(cache.report().bytes.total);
    },
  );

  test('without images goes on, whether the old pictures come along or not', async () => {
    const third = followed(first, await conversation(tiny, [ask('Why?')]));
    const all = { ...third, pixel_values: inputs.pixel_values };
    const truth = await greedy(tiny.stock, all);
    for (const given of [third, all]) {
      await using cache = new PackedCache(model);
      await generate(model, { ...inputs, past_key_values: cache, max_new_tokens: 5, do_sample: false });
      expect(await greedy(model, { ...given, past_key_values: cache })).toEqual(truth);
    }
  });

  test('of a batch finds each sequence its own new picture among all pictures', async () => {
    const [a, b] = [await conversation(tiny, [ask('First', 1)], [1]), await conversation(tiny, [ask('Other one', 1)], [2])];
    const more = await conversation(tiny, [ask('next', 1)], [3]);
    const rows = [
      { ...followed(a.input_ids, more), pixel_values: cat([a.pixel_values as Tensor, more.pixel_values as Tensor], 0) },
      { ...followed(b.input_ids, more), pixel_values: cat([b.pixel_values as Tensor, more.pixel_values as Tensor], 0) },
    ];
    const truth = [(await greedy(tiny.stock, rows[0] as Prompt, 6))[0], (await greedy(tiny.stock, rows[1] as Prompt, 6))[0]];
    await using cache = new PackedCache(model);
    await model({ ...leftPadded([a, b]), past_key_values: cache });
    const tokens = await greedy(model, { ...leftPadded(rows), past_key_values: cache }, 6);
    truth.forEach((row, i) => {
      expect(tokens[i]?.slice(0, row?.length)).toEqual(row);
    });
  });

  test('crop goes back to before an image and forgets it whole', async () => {
    await using cache = new PackedCache(model, { compactAt: 'span' });
    const length = inputs.input_ids.dims[1] as number;
    await model({ ...inputs, past_key_values: cache });
    const before = cache.report();
    await greedy(model, { ...second, past_key_values: cache }, 8);
    cache.crop(length);
    expect(cache.report()).toMatchObject({ tokens: length, packedImages: 2, packedTokens: before.packedTokens });
    expect(cache.bytes).toBe(cache.report().bytes.total);
    expect(await greedy(model, { ...second, past_key_values: cache }, 8)).toEqual(wanted);
    cache.crop(0);
    expect(await greedy(model, { ...inputs, past_key_values: cache })).toEqual(await greedy(tiny.stock, inputs));
  });
});

class Recorder extends BaseStreamer {
  readonly calls: number[][] = [];
  override put(ids: bigint[][]): void {
    this.calls.push((ids[0] ?? []).map(Number));
  }
  override end(): void {
    this.calls.push([-1]);
  }
}

/** Makes one token certain. */
class Always extends LogitsProcessor {
  readonly #token: number;
  constructor(token: number) {
    super();
    this.#token = token;
  }
  override _call(_ids: bigint[][], logits: Tensor): Tensor {
    (logits.data as Float32Array)[this.#token] = 1e9;
    return logits;
  }
}

function always(token: number): LogitsProcessorList {
  const list = new LogitsProcessorList();
  list.push(new Always(token));
  return list;
}

class AfterFour extends StoppingCriteria {
  override _call(ids: number[][]): boolean[] {
    return ids.map((row) => row.length >= (inputs.input_ids.dims[1] ?? 0) + 4);
  }
}

test('a streamer is called once per token, in the stock order', async () => {
  const [stock, packed] = [new Recorder(), new Recorder()];
  await generate(tiny.stock, { ...inputs, max_new_tokens: 7, do_sample: false, streamer: stock });
  await generate(model, { ...inputs, max_new_tokens: 7, do_sample: false, streamer: packed });
  expect(packed.calls).toEqual(stock.calls);
});

test('sampling with a seed draws what the stock model draws', async () => {
  const draw = async (which: typeof tiny.stock): Promise<number[][]> => {
    random.seed(11);
    return newTokens(await generate(which, { ...inputs, max_new_tokens: 12, do_sample: true, temperature: 1.3, top_k: 40 }), inputs);
  };
  const wanted = await draw(tiny.stock);
  expect(await draw(model)).toEqual(wanted);
  expect(wanted).not.toEqual(await greedy(tiny.stock, inputs));
});

test('generation stops where the stock model stops: end token, custom criteria, interruption, one token', async () => {
  expect(await greedy(model, { ...inputs, logits_processor: always(EOS) })).toEqual([[EOS]]);
  expect((await greedy(model, { ...inputs, stopping_criteria: new AfterFour() }))[0]).toHaveLength(4);
  const interrupt = new InterruptableStoppingCriteria();
  const streamer = new Recorder();
  const put = streamer.put.bind(streamer);
  streamer.put = (ids) => {
    put(ids);
    if (streamer.calls.length === 3) interrupt.interrupt();
  };
  expect((await greedy(model, { ...inputs, stopping_criteria: interrupt, streamer }))[0]).toHaveLength(2);
  expect(await greedy(model, inputs, 1)).toEqual([(await greedy(tiny.stock, inputs, 1))[0]]);
});

test('an image token the model itself generates is a word like others', async () => {
  const options = { ...inputs, logits_processor: always(IMAGE_TOKEN), max_new_tokens: 4, do_sample: false };
  const wanted = await generate(tiny.stock, options);
  await using cache = new PackedCache(model);
  expect((await generate(model, { ...options, past_key_values: cache })).tolist()).toEqual(wanted.tolist());
  expect(cache.report().packedImages).toBe(2);
});

test('generate without a cache uses one of its own and leaves none behind', async () => {
  const before = numStores();
  const wanted = await greedy(tiny.stock, inputs);
  expect(await greedy(model, inputs)).toEqual(wanted);
  expect(await greedy(model, { ...inputs, past_key_values: undefined })).toEqual(wanted);
  expect(await greedy(model, { ...inputs, past_key_values: null })).toEqual(wanted);
  const failing = new Recorder();
  failing.put = () => {
    throw new Error('no more paper');
  };
  await expect(greedy(model, { ...inputs, streamer: failing })).rejects.toThrow('no more paper');
  await logitsOf(model, inputs);
  expect(numStores()).toBe(before);
});

test('return_dict_in_generate hands the cache over, ready for the next turn', async () => {
  const before = numStores();
  const result = (await generate(model, { ...inputs, max_new_tokens: 3, do_sample: false, return_dict_in_generate: true })) as unknown as {
    sequences: Tensor;
    past_key_values: PackedCache;
  };
  expect(result.past_key_values).toBeInstanceOf(PackedCache);
  const next = followed(result.sequences, await conversation(tiny, [ask('Why?')]));
  const wanted = await greedy(tiny.stock, { ...next, pixel_values: inputs.pixel_values });
  expect(await greedy(model, { ...next, past_key_values: result.past_key_values })).toEqual(wanted);
  await result.past_key_values.dispose();
  expect(numStores()).toBe(before);
});

test('a forward pass leaves its inputs as they were and gives all logits, or as many as are asked for', async () => {
  await using cache = new PackedCache(model, { chunk: 10 });
  const given = { ...inputs, past_key_values: cache };
  const copy = { ...given };
  const stock = await logitsOf(tiny.stock, inputs);
  const own = await logitsOf(model, given);
  expect(given).toEqual(copy);
  expect(own.dims).toEqual(stock.dims);
  expectClose(floats(own), floats(stock));
  const vocab = stock.dims[2] as number;
  for (const keep of [1, 17, 1000]) {
    await using other = new PackedCache(model, { chunk: 10 });
    const some = await logitsOf(model, { ...inputs, past_key_values: other, num_logits_to_keep: new Tensor('int64', [BigInt(keep)], []) });
    const rows = Math.min(keep, stock.dims[1] as number);
    expect(some.dims[1]).toBe(rows);
    expectClose(floats(some), floats(stock).subarray(-rows * vocab));
  }
});

test('a forward pass over new tokens alone needs no mask and counts positions from the whole conversation', async () => {
  const stock = floats(await logitsOf(tiny.stock, inputs));
  const cut = (inputs.input_ids.dims[1] as number) - 5;
  await using cache = new PackedCache(model);
  await model({ ...inputs, input_ids: inputs.input_ids.slice(null, [0, cut]), attention_mask: undefined, past_key_values: cache });
  const logits = floats(await logitsOf(model, { input_ids: inputs.input_ids.slice(null, [cut, cut + 5]), past_key_values: cache }));
  expectClose(logits, stock.subarray(-logits.length));
});

test('two caches generating at once give what each gives alone', async () => {
  const other = await conversation(tiny, [ask('Something else', 1)], [9]);
  const wanted = [await greedy(tiny.stock, inputs), await greedy(tiny.stock, other)];
  await using a = new PackedCache(model, { chunk: 5 });
  await using b = new PackedCache(model, { chunk: 7 });
  const both = await Promise.all([greedy(model, { ...inputs, past_key_values: a }), greedy(model, { ...other, past_key_values: b })]);
  expect(both).toEqual(wanted);
});
