/** The evaluation on tiny random models: its answers are those of generate, its bytes those of the caches, and an interrupt loses nothing. */
import { readFileSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { AutoModelForImageTextToText, DynamicCache, type Tensor } from '@huggingface/transformers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { prepare } from '../../src/compare/context.ts';
import { beginQuantised, loadQuantised, type Magnitudes, widen } from '../../src/compare/quantised.ts';
import { assert } from '../../src/errors.ts';
import { JOURNAL_FILE } from '../../src/eval/journal.ts';
import { type ContextRecord, isSkipped, type JournalEntry } from '../../src/eval/records.ts';
import { type EvaluateOptions, type Evaluation, evaluate } from '../../src/eval/run.ts';
import { type CacheSetting, parseSettings } from '../../src/eval/settings.ts';
import type { Task } from '../../src/eval/task.ts';
import { type LoadOptions, type Message, PackedCache, type PackedOptions, prompt, question } from '../../src/index.ts';
import { denseTokenBytes } from '../../src/shape.ts';
import { STATE } from '../../src/state.ts';
import { noiseTask } from '../support/eval.ts';
import { HEAD_DIM, NUM_LAYERS, picture, removeFolder, TOKENS_PER_IMAGE, temporaryFolder } from '../support/models.ts';
import { generate, logitsOf, openTiny, type Tiny } from '../support/tiny.ts';
import { openTinyQwen2Vl, tokensLarge } from '../support/tiny-qwen2vl.ts';

const LOAD = { dtype: 'fp32', session_options: { intraOpNumThreads: 1, interOpNumThreads: 1 } };

let root: string;
beforeEach(() => {
  root = temporaryFolder();
});
afterEach(() => removeFolder(root));

function readJournal(folder: string): JournalEntry[] {
  const lines = readFileSync(path.join(folder, JOURNAL_FILE), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as JournalEntry).filter((entry) => 'context' in entry);
}

/** What a run that was not interrupted must have in common with one that was. */
const lasting = ({ run: _, ...rest }: Evaluation): object => rest;

/** Greedy answers by generate from the whole prompt, as a user gets them. */
async function answers(tiny: Tiny, task: Task, setting: CacheSetting): Promise<string[]> {
  const texts: string[] = [];
  const { tokenizer } = tiny.processor;
  const say = (sequences: Tensor, length: number): number =>
    texts.push(tokenizer?.decode([...(sequences.data as BigInt64Array).subarray(length)], { skip_special_tokens: true }).trim() ?? '');
  const model = setting.kind === 'dense' ? tiny.stock : setting.kind === 'packed' ? await tiny.load({ ...setting.options }) : undefined;
  const quantised = setting.kind === 'quantised' ? await loadQuantised(AutoModelForImageTextToText, tiny.folder, LOAD, setting) : undefined;
  for await (const context of task.contexts()) {
    const images = await context.images();
    const magnitudes: Magnitudes = new Map();
    const dense: Record<string, Tensor> = {};
    const prompts = [];
    for (const { text } of context.questions) {
      const messages: Message[] = [question(text, images.length, { clip: context.isClip ?? false })];
      prompts.push(await prompt(tiny.processor, messages, images));
    }
    if (setting.kind === 'quantised') {
      // Scales from every row the dense cache ever holds: prompts and answers.
      for (const inputs of prompts) {
        const held = new DynamicCache();
        const sequences = await generate(tiny.stock, {
          ...inputs,
          past_key_values: held,
          max_new_tokens: task.maxNewTokens,
          do_sample: false,
        });
        expect(sequences.dims[0]).toBe(1);
        widen(magnitudes, held as unknown as Record<string, Tensor>);
        Object.assign(dense, held);
      }
    }
    for (const inputs of prompts) {
      const past =
        setting.kind === 'quantised' ? { past_key_values: new DynamicCache({ ...beginQuantised(magnitudes, dense, setting) }) } : {};
      const runner = model ?? quantised;
      if (!runner) throw new Error('no model');
      // A stock model drops the pictures of a prompt that comes with a cache; an empty quantised one must still read them.
      const sequences = await generate(runner, { ...inputs, ...past, max_new_tokens: task.maxNewTokens, do_sample: false });
      say(sequences, inputs.input_ids.dims[1] ?? 0);
    }
  }
  await quantised?.dispose();
  return texts;
}

describe('LLaVA layout', () => {
  let tiny: Tiny;
  beforeAll(async () => {
    tiny = await openTiny({ contextLength: 512 });
  });
  afterAll(() => tiny[Symbol.asyncDispose]());

  const run = (options: Partial<EvaluateOptions> & Pick<EvaluateOptions, 'tasks'>): Promise<Evaluation> =>
    evaluate(tiny.folder, { load: LOAD, ...options });

  const CACHE =
    'dense,int8,int4,dense-fp16,packed:4,rotary=post-rope,packed:6,codes=int8,basis=float16,packed:2,basis-per=context,packed:compression=1.5,counted=images,packed:preset=auto';
  test('every cache setting gives the tokens that generate gives', async () => {
    const task = noiseTask({ size: 2, maxNewTokens: 10 });
    await run({ tasks: [task], cache: CACHE, out: root });
    const records = readJournal(root).filter((entry): entry is ContextRecord => !isSkipped(entry));
    for (const setting of parseSettings(CACHE)) {
      const own = records
        .filter((record) => record.setting === setting.name)
        .flatMap(({ questions }) => questions.map(({ answer }) => answer));
      expect(own, setting.name).toEqual(await answers(tiny, task, setting));
    }
    const strange = new Set(records.flatMap(({ questions }) => questions.filter(({ same }) => !same)));
    expect(strange.size).toBeGreaterThan(0); // else nothing was generated behind a cache that differs
  });

  // What is evicted, packed of text or read in tiers goes by the calls there were: behind the pictures, the first question is asked as a user asks it.
  test.each([
    'packed:6,tiers=0.5,tier-rank=2',
    'packed:6,text-every=4,text-recent=2',
    'packed:6,evict=h2o,keep=0.5',
    'evict:snapkv,keep=0.5',
  ])('%s gives the tokens that generate gives behind the same pictures', async (name) => {
    const task = noiseTask({ size: 2, maxNewTokens: 10 });
    await run({ tasks: [task], cache: name, out: root });
    const [setting] = parseSettings(name).filter(({ kind }) => kind !== 'dense');
    assert(setting && 'options' in setting, 'a packed setting');
    const records = readJournal(root).filter((entry): entry is ContextRecord => !isSkipped(entry) && entry.setting === setting.name);
    const model = await tiny.load({ ...setting.options } as PackedOptions & LoadOptions);
    const firsts: string[] = [];
    for await (const context of task.contexts()) {
      const images = await context.images();
      const asked = await prepare(model, tiny.processor, images, context.questions.map(({ text }) => text)); // biome-ignore format: arguments
      await using cache = new PackedCache(model);
      await logitsOf(model, { ...asked.inputs, past_key_values: cache });
      const inputs = await prompt(tiny.processor, [question(context.questions[0]?.text ?? '', images.length)], images);
      const sequences = await generate(model, { ...inputs, past_key_values: cache, max_new_tokens: task.maxNewTokens, do_sample: false });
      const tail = [...(sequences.data as BigInt64Array).subarray(inputs.input_ids.dims[1])];
      firsts.push(tiny.processor.tokenizer?.decode(tail, { skip_special_tokens: true }).trim() ?? '');
    }
    expect(records.map(({ questions }) => questions[0]?.answer)).toEqual(firsts);
  });

  test('the first answer token comes through the packed pictures', async () => {
    const { rows } = await run({ tasks: [noiseTask({ size: 1, maxNewTokens: 1 })], cache: 'packed:1' });
    const packed = rows.find(({ setting }) => setting === 'packed:1');
    expect(packed?.loyalty.tokens).toBe(2); // one for each question, so all of them first tokens
    expect(packed?.loyalty.kl).toBeGreaterThan(1e-3);
  });

  test('nothing lost in packing is nothing lost in loyalty', async () => {
    const { rows } = await run({ tasks: [noiseTask({ size: 1 })], cache: `packed:${TOKENS_PER_IMAGE},rotary=post-rope` });
    expect(rows[1]?.loyalty).toMatchObject({ top1: 1, answerMatch: 1 });
    expect(rows[1]?.loyalty.kl).toBeLessThan(1e-8);
    expect(rows[1]?.difference).toMatchObject({ mean: 0, better: 0, worse: 0 });
  });

  test('bytes are those held: rows, scales, codes and bases', async () => {
    const { rows } = await run({ tasks: [noiseTask({ size: 1 })], cache: 'int8,int8:scales=tensor,int4,packed:4' });
    const width = 4 * HEAD_DIM;
    const [dense, int8, plain, int4, packed] = rows.map(({ bytes }) => bytes);
    const tokens = dense?.tokensPerContext ?? 0;
    expect(tokens).toBeGreaterThan(2 * TOKENS_PER_IMAGE);
    expect(dense).toMatchObject({ heldPerContext: 8 * NUM_LAYERS * width * tokens, compression: 0.5, visualCompression: 0.5 });
    expect(dense?.denseFp16PerContext).toBe(4 * NUM_LAYERS * width * tokens);
    expect(int8?.heldPerContext).toBe(2 * NUM_LAYERS * width * (tokens + 4));
    expect(plain?.heldPerContext).toBe(2 * NUM_LAYERS * (width * tokens + 4));
    expect(int4?.heldPerContext).toBe(2 * NUM_LAYERS * width * (tokens / 2 + 4));
    // Two images of 16 tokens, four of them the sink: 28 packed in codes and bases of rank 4.
    const model = await tiny.load({ rank: 4 });
    expect(packed?.visualTokensPerContext).toBe(2 * TOKENS_PER_IMAGE);
    expect(packed?.denseFp16PerContext).toBe(denseTokenBytes(model[STATE].graph.shape) * tokens);
    expect(packed?.visualCompression).toBeLessThan(packed?.compression === undefined ? 0 : 100);
  });

  test('half-resolution pictures take as many tokens and say something else', async () => {
    const { rows } = await run({ tasks: [noiseTask({ size: 1 })], cache: 'half-resolution' });
    const [dense, half] = rows;
    expect(half?.bytes).toEqual(dense?.bytes);
    expect(half?.loyalty.kl).toBeGreaterThan(1e-3);
  });

  test('pictures are asked for once a context, and read once whatever the number of questions', async () => {
    const task = noiseTask({ size: 2 });
    await run({ tasks: [task], cache: 'int8,packed:4,packed:8' });
    expect(task.drawn).toEqual(['noise-0', 'noise-1']);

    let calls = 0;
    const { image_processor } = tiny.processor.components as { image_processor: (...args: unknown[]) => unknown };
    const count = (...args: unknown[]): unknown => {
      calls++;
      return image_processor(...args);
    };
    const counting = Object.setPrototypeOf(count, image_processor);
    const processor = Object.create(tiny.processor, { components: { value: { ...tiny.processor.components, image_processor: counting } } });
    const context = await prepare(tiny.stock, processor, [picture(1), picture(2)], ['a', 'b', 'c']);
    expect(calls).toBe(1);
    expect(context.questions).toHaveLength(3);
  });

  test('a run that is stopped goes on where it was, to the same result', async () => {
    const tasks = (): Task[] => [noiseTask({ size: 2 }), noiseTask({ name: 'more', size: 2, maxNewTokens: 3 })];
    const cache = 'int8,packed:4';
    const whole = await run({ tasks: tasks(), cache });
    expect(whole.rows).toHaveLength(6);
    for (const stopAfter of [1, 5]) {
      const out = path.join(root, String(stopAfter));
      const stop = new AbortController();
      const onProgress = ({ done }: { done: number }): void => (done === stopAfter ? stop.abort() : undefined);
      await expect(run({ tasks: tasks(), cache, out, signal: stop.signal, onProgress })).rejects.toThrow(/abort/i);
      expect(readJournal(out)).toHaveLength(stopAfter);
      // As if the process had died in the middle of a line.
      const file = path.join(out, JOURNAL_FILE);
      truncateSync(file, readFileSync(file).length - 7);
      const again = tasks();
      const resumed = await run({ tasks: again, cache, out });
      expect(lasting(resumed)).toEqual(lasting(whole));
      expect(readJournal(out)).toHaveLength(12);
      expect((again[0] as ReturnType<typeof noiseTask>).drawn).toEqual(stopAfter === 1 ? ['noise-0', 'noise-1'] : ['noise-1']);
      const idle = tasks();
      expect(lasting(await run({ tasks: idle, cache, out }))).toEqual(lasting(whole));
      expect((idle[0] as ReturnType<typeof noiseTask>).drawn).toEqual([]);
    }
  });

  test('further contexts and settings go into the same journal', async () => {
    const whole = await run({ tasks: [noiseTask({ size: 2 })], cache: 'int8,packed:4' });
    await run({ tasks: [noiseTask({ size: 2 })], cache: 'packed:4', limit: 1, out: root });
    const more = await run({ tasks: [noiseTask({ size: 2 })], cache: 'int8,packed:4', out: root });
    expect(lasting(more)).toEqual(lasting(whole));
    const less = await run({ tasks: [noiseTask({ size: 2 })], cache: 'dense', limit: 1, out: root });
    expect(less.rows).toHaveLength(1);
    expect(less.rows[0]?.score.numContexts).toBe(1);
    await expect(run({ tasks: [noiseTask({ size: 2, maxNewTokens: 7 })], out: root })).rejects.toThrow('had maxNewTokens 6, now 7');
  });

  test('what a model cannot have is said with the reason, and the rest is measured', async () => {
    const { refused, rows } = await run({ tasks: [noiseTask({ size: 1 })], cache: 'dense-fp32,int8' });
    expect(refused).toEqual([{ setting: 'dense-fp32', reason: 'the weights are float32 already' }]);
    expect(rows.map(({ setting }) => setting)).toEqual(['dense', 'int8']);
    await expect(run({ tasks: [noiseTask()], cache: 'dense-fp32' })).rejects.toThrow('none of the cache settings can be had on this model');
  });

  test('a context that a setting cannot hold ends the run in one line that names both', async () => {
    const refused = run({ tasks: [noiseTask({ size: 1 })], cache: 'packed:compression=90' });
    await expect(refused).rejects.toThrow(
      /^'packed:compression=90' cannot hold context '.+' of task 'noise': compression 90 asks for \d+ bytes at most/,
    );
  });

  test('contexts longer than the model’s are left out with the reason', async () => {
    const { tasks, rows } = await run({ tasks: [noiseTask({ size: 2, maxNewTokens: 600 })], cache: 'packed:4' });
    expect(tasks[0]).toMatchObject({ contexts: 0, skipped: 2 });
    expect(tasks[0]?.skippedWhy).toMatch(/^\d+ tokens, answer included, exceed the model's context of 512$/);
    expect(rows).toEqual([]);
  });

  test.each([
    ['a rank the model has not', { cache: 'packed:65' }, 'rank 65 exceeds the 64 columns'],
    ['no tasks', { tasks: [] }, 'there are no tasks'],
    ['a task twice', { tasks: [noiseTask(), noiseTask()] }, "task 'noise' is given twice"],
  ])('%s is refused in one line', async (_, options, message) => {
    await expect(run({ tasks: [noiseTask({ size: 1 })], ...options })).rejects.toThrow(message);
  });
});

describe('Qwen2-VL layout', () => {
  let tiny: Tiny;
  beforeAll(async () => {
    tiny = await openTinyQwen2Vl();
  });
  afterAll(() => tiny[Symbol.asyncDispose]());

  test.each([
    ['pictures of several sizes', false],
    ['a clip', true],
  ])('%s: every setting gives the tokens that generate gives', async (_, isClip) => {
    const images = async (seed: number) => [await tokensLarge(seed + 1, 4, 3), await tokensLarge(seed + 5, isClip ? 4 : 2, isClip ? 3 : 5)];
    const task = noiseTask({ size: 1, maxNewTokens: 6, images, isClip });
    const cache = 'dense,packed:4,half-resolution,int8';
    const { rows } = await evaluate(tiny.folder, { load: LOAD, tasks: [task], cache, out: root });
    const records = readJournal(root).filter((entry): entry is ContextRecord => !isSkipped(entry));
    for (const setting of parseSettings('dense,packed:4')) {
      const own = records
        .filter((record) => record.setting === setting.name)
        .flatMap(({ questions }) => questions.map(({ answer }) => answer));
      expect(own, setting.name).toEqual(await answers(tiny, task, setting));
    }
    const [dense, , half, int8] = rows;
    expect(half?.bytes.visualTokensPerContext).toBeLessThan(dense?.bytes.visualTokensPerContext ?? 0);
    expect(int8?.loyalty.top1).toBeGreaterThan(0.9);
  });
});
