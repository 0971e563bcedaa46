/** Prompts as users write them: many pictures, none, no text, long text, any script; and what they get wrong. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compare } from '../src/compare.ts';
import { AttentionPackError, PackedCache, prompt, question } from '../src/index.ts';
import { IMAGE_TOKEN, picture, TOKENS_PER_IMAGE } from './support/models.ts';
import { ask, conversation, expectClose, floats, greedy, logitsOf, openTiny, type Packed, type Tiny } from './support/tiny.ts';

let tiny: Tiny;
let model: Packed;

beforeAll(async () => {
  tiny = await openTiny();
  model = await tiny.load({ rank: tiny.width });
});
afterAll(() => tiny[Symbol.asyncDispose]());

test('each image part becomes as many placeholders as the model makes tokens, in place', async () => {
  const { input_ids, pixel_values } = await conversation(
    tiny,
    [ask('a', 1), { role: 'assistant', content: 'b' }, { role: 'user', content: [{ type: 'text', text: 'c' }, { type: 'image' }] }],
    [1, 2],
  );
  const ids = (input_ids.tolist() as bigint[][])[0]?.map(Number) ?? [];
  const runs = ids.join(' ').split(new Array(TOKENS_PER_IMAGE).fill(IMAGE_TOKEN).join(' '));
  expect(runs).toHaveLength(3);
  expect(ids.filter((id) => id === IMAGE_TOKEN)).toHaveLength(2 * TOKENS_PER_IMAGE);
  expect(pixel_values?.dims).toEqual([2, 3, 32, 32]);
});

test.each([
  ['without a word', 2, ''],
  ['of many scripts', 1, 'Ünïcødé 你好 مرحبا 🙂 \u0000 \n\t'],
  ['without an image', 0, 'Just words'],
  ['with a very long question', 1, 'why? '.repeat(250)],
])('a prompt %s gives the stock model’s answer', async (_, numImages, text) => {
  const inputs = await conversation(tiny, [ask(text, numImages)], [1, 2].slice(0, numImages));
  await using cache = new PackedCache(model);
  expect(await greedy(model, { ...inputs, past_key_values: cache }, 6)).toEqual(await greedy(tiny.stock, inputs, 6));
  expect(cache.report().packedImages).toBe(numImages);
});

test('64 images in one prompt are packed one by one, and read as the stock model reads them', async () => {
  const seeds = Array.from({ length: 64 }, (_, i) => i + 1);
  const inputs = await conversation(tiny, [ask('Which of these?', 64)], seeds);
  await using cache = new PackedCache(model, { compactAt: 'span' });
  expectClose(floats(await logitsOf(model, { ...inputs, past_key_values: cache })), floats(await logitsOf(tiny.stock, inputs)));
  const report = cache.report();
  expect(report).toMatchObject({ packedImages: 64, packedTokens: 64 * TOKENS_PER_IMAGE - 2 });
  expect(cache.bytes).toBe(report.bytes.total);
});

test('pictures of one pixel and of extreme shape are read', async () => {
  const shapes = [picture(1, 1), await picture(2, 64).resize(200, 1), await picture(3, 64).resize(1, 200)];
  const inputs = await prompt(tiny.processor, [question('?', 3)], shapes);
  expect(await greedy(model, inputs, 4)).toEqual(await greedy(tiny.stock, inputs, 4));
});

test.each([
  ['fewer pictures than image parts', [ask('?', 2)], [1], /2 image parts but 1 images were given; give one for each/],
  ['pictures without image parts', [{ role: 'user', content: '?' } as const], [1], /0 image parts but 1 images/],
  ['a placeholder in the text', [ask('What is <image>?', 1)], [1], /2 times '<image>' for 1 images/],
  ['a placeholder and no pictures', [ask('What is <image>?')], [], /1 times '<image>' for 0 images/],
])('%s are refused', async (_, messages, seeds, message) => {
  const refused = conversation(tiny, messages, seeds);
  await expect(refused).rejects.toThrow(AttentionPackError);
  await expect(refused).rejects.toThrow(message);
});

test('a comparison at full rank finds the same answers and no divergence, and counts every image token', async () => {
  const images = [picture(1), picture(2)];
  const result = await compare(tiny.stock, model, tiny.processor, images, ['What is it?', 'And why?'], {
    maxNewTokens: 6,
    cache: { sink: 0 },
  });
  expect(result).toMatchObject({ images: 2, visualTokens: 2 * TOKENS_PER_IMAGE, answerMatch: 1, agreement: { top1: 1 } });
  // Logits agree to 2e-5, so divergence is of the order of that squared.
  expect(result.agreement.kl).toBeLessThan(1e-8);
  for (const { dense, packed } of result.answers) expect(packed).toBe(dense);
  await expect(compare(tiny.stock, model, tiny.processor, images, [])).rejects.toThrow('no questions');
  await expect(compare(tiny.stock, model, tiny.processor, [], ['Why?'])).rejects.toThrow('no images');
});
