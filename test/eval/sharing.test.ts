/** Pictures are encoded once for all models of a run. */
import type { PreTrainedModel } from '@huggingface/transformers';
import { expect, test } from 'vitest';
import { rememberPictures, shareEncoders } from '../../src/eval/sharing.ts';
import { Tensor } from '../../src/ort.ts';

function fakeSession(name: string) {
  const session = {
    inputNames: ['pixel_values'],
    outputNames: ['image_features'],
    config: { dtype: 'q8' },
    runs: 0,
    released: 0,
    run: async (_feeds: object) => ({ image_features: `${name} ${++session.runs}` }),
    release: async () => {
      session.released++;
    },
  };
  return session;
}

function fakeModel(name: string) {
  const sessions = { vision_encoder: fakeSession(`${name} vision`), embed_tokens: fakeSession(`${name} text`), decoder: fakeSession(name) };
  return { originals: { ...sessions }, model: { sessions } as unknown as PreTrainedModel };
}

type Runs = Record<
  string,
  { run(feeds: object): Promise<Record<string, string>>; release(): Promise<void>; inputNames: string[]; config: unknown }
>;
const sessionsOf = (model: PreTrainedModel): Runs => model.sessions as unknown as Runs;
const pixels = (): Tensor => new Tensor('float32', new Float32Array(1), [1]);

test('the same pictures are encoded once, whichever model asks, and others anew', async () => {
  const [owner, other] = [fakeModel('owner'), fakeModel('other')];
  rememberPictures(owner.model);
  await shareEncoders(owner.model, other.model);
  const [first, second] = [pixels(), pixels()];
  const seen = [];
  for (const [model, pixel_values] of [
    [owner, first],
    [other, first],
    [other, second],
    [owner, second],
    [owner, first],
  ] as const)
    seen.push((await sessionsOf(model.model).vision_encoder?.run({ pixel_values }))?.image_features);
  expect(seen).toEqual(['owner vision 1', 'owner vision 1', 'owner vision 2', 'owner vision 2', 'owner vision 1']);
  expect(other.originals.vision_encoder.runs).toBe(0);
});

test('each gets outputs of its own: transformers.js puts its tensors into them', async () => {
  const { model } = fakeModel('owner');
  rememberPictures(model);
  const pixel_values = pixels();
  const outputs = await sessionsOf(model).vision_encoder?.run({ pixel_values });
  if (outputs) outputs.image_features = 'changed';
  expect(await sessionsOf(model).vision_encoder?.run({ pixel_values })).toEqual({ image_features: 'owner vision 1' });
});

test('what a model does not need is released at once, what it borrows only by its owner', async () => {
  const [owner, other] = [fakeModel('owner'), fakeModel('other')];
  rememberPictures(owner.model);
  await shareEncoders(owner.model, other.model);
  expect(other.originals.vision_encoder.released + other.originals.embed_tokens.released).toBe(2);
  expect(other.originals.decoder.released).toBe(0);
  for (const session of Object.values(sessionsOf(other.model))) await session.release();
  expect(owner.originals.vision_encoder.released + owner.originals.embed_tokens.released).toBe(0);
  expect(other.originals.decoder.released).toBe(1);
  for (const session of Object.values(sessionsOf(owner.model))) await session.release();
  expect(owner.originals.vision_encoder.released).toBe(1);
  expect(sessionsOf(other.model).vision_encoder).toMatchObject({ inputNames: ['pixel_values'], config: { dtype: 'q8' } });
});
