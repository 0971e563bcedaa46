/** The rewritten graph itself: inputs and outputs by the contract, everything else as it was, and not too many nodes. */
import * as ort from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  DataType,
  decodeModel,
  dimsOfValue,
  elementType,
  encodeModel,
  type Graph,
  GraphEditor,
  type Model,
  type Node,
  subgraphs,
  type ValueInfo,
} from '../src/onnx/index.ts';
import { readShape, rewrite } from '../src/rewrite.ts';
import { compare } from './support/compare.ts';
import { EMBED, randomNumbers, tinyDecoder } from './support/decoders.ts';
import { PlainCache } from './support/plain-cache.ts';
import { numbers, openSession } from './support/run.ts';

const pack = (model: Model, options?: Parameters<typeof rewrite>[1]) => rewrite({ model, path: 'tiny.onnx' }, options);
const described = (list: ValueInfo[] | null | undefined): Record<string, string> =>
  Object.fromEntries((list ?? []).map((info) => [info.name, `${elementType(info)} [${dimsOfValue(info)?.join(', ')}]`]));
const opTypes = (model: Model): (string | null | undefined)[] => (model.graph?.node ?? []).map(({ opType }) => opType);

describe('contract', () => {
  test('rotate-late', () => {
    const { model } = pack(tinyDecoder({ windows: [undefined] })).model;
    expect(described(model.graph?.input)).toMatchInlineSnapshot(`
      {
        "attention_mask": "7 [batch_size, total_sequence_length]",
        "inputs_embeds": "1 [batch_size, sequence_length, 24]",
        "packed.0.key_basis": "1 [batch_size, segments, 2, key_rank_0, 16]",
        "packed.0.key_codes": "1 [batch_size, segments, segment_size, key_rank_0]",
        "packed.0.value_basis": "1 [batch_size, segments, 2, value_rank_0, 16]",
        "packed.0.value_codes": "1 [batch_size, segments, segment_size, value_rank_0]",
        "packed.positions": "7 [batch_size, packed_size]",
        "packed.slots": "7 [batch_size, packed_size]",
        "past_key_values.0.key": "1 [batch_size, 2, past_sequence_length, 16]",
        "past_key_values.0.value": "1 [batch_size, 2, past_sequence_length, 16]",
        "window.slots": "7 [batch_size, window_size]",
      }
    `);
    expect(described(model.graph?.output)).toMatchInlineSnapshot(`
      {
        "logits": "1 [batch_size, sequence_length, 13]",
        "present_new.0.key": "1 [batch_size, 2, new_tokens, 16]",
        "present_new.0.value": "1 [batch_size, 2, new_tokens, 16]",
        "present_positions": "7 [batch_size, new_tokens]",
        "present_raw.0.key": "1 [batch_size, 2, new_tokens, 16]",
      }
    `);
  });

  test('post-rope of an fp16 decoder, int8 codes, fp16 bases', () => {
    const decoder = tinyDecoder({ windows: [undefined], type: DataType.FLOAT16 });
    const { model } = pack(decoder, { rotary: 'post-rope', codes: 'int8', basis: 'float16' }).model;
    expect(described(model.graph?.input)).toMatchInlineSnapshot(`
      {
        "attention_mask": "7 [batch_size, total_sequence_length]",
        "inputs_embeds": "10 [batch_size, sequence_length, 24]",
        "packed.0.key_basis": "10 [batch_size, segments, 2, key_rank_0, 16]",
        "packed.0.key_codes": "3 [batch_size, segments, segment_size, key_rank_0]",
        "packed.0.value_basis": "10 [batch_size, segments, 2, value_rank_0, 16]",
        "packed.0.value_codes": "3 [batch_size, segments, segment_size, value_rank_0]",
        "packed.slots": "7 [batch_size, packed_size]",
        "past_key_values.0.key": "10 [batch_size, 2, past_sequence_length, 16]",
        "past_key_values.0.value": "10 [batch_size, 2, past_sequence_length, 16]",
        "window.slots": "7 [batch_size, window_size]",
      }
    `);
    expect(described(model.graph?.output)).toMatchInlineSnapshot(`
      {
        "logits": "10 [batch_size, sequence_length, 13]",
        "present_new.0.key": "10 [batch_size, 2, new_tokens, 16]",
        "present_new.0.value": "10 [batch_size, 2, new_tokens, 16]",
      }
    `);
  });

  test('shape', () => {
    const file = { model: tinyDecoder({ windows: [5, undefined], type: DataType.FLOAT16 }), path: 'tiny.onnx' };
    const shape = readShape(file);
    expect(shape).toEqual({
      windowType: 'float16',
      layers: [
        { index: 0, numHeads: 4, numKvHeads: 2, headDim: 16, localWindow: 5, rotary: 'inside' },
        { index: 1, numHeads: 4, numKvHeads: 2, headDim: 16, rotary: 'inside' },
      ],
    });
    expect(rewrite(file).shape).toEqual(shape);
  });

  test('the rotary mode is chosen where none is asked for', () => {
    expect(pack(tinyDecoder()).report.rotary).toBe('rotate-late');
    expect(pack(tinyDecoder({ rotary: 'outside' })).report.rotary).toBe('rotate-late');
    expect(pack(tinyDecoder({ rotary: 'axes' })).report.rotary).toBe('m-rope');
    expect(pack(tinyDecoder({ rotary: 'axes' }), { provider: 'webgpu' }).report.rotary).toBe('rotate-late');
    expect(pack(tinyDecoder({ rotary: 'none' })).report.rotary).toBe('post-rope');
  });
});

describe('what is not attention', () => {
  test('the original model is not changed', () => {
    const model = tinyDecoder({ branch: true, bias: 'mask' });
    const before = encodeModel(model);
    pack(model);
    expect(encodeModel(model)).toEqual(before);
  });

  test('metadata, functions, opsets, weights and other inputs stay', () => {
    const model = tinyDecoder({ branch: true });
    model.metadataProps = [{ key: 'author', value: 'nobody' }];
    model.functions = [{ name: 'unused', domain: 'local', output: ['y'], node: [{ opType: 'Constant', output: ['y'] }] }];
    model.opsetImport?.push({ domain: 'local', version: 1 });
    const original = decodeModel(encodeModel(model)); // the same codec on both sides
    const { model: packed } = pack(model).model;
    expect(packed.metadataProps).toEqual(original.metadataProps);
    expect(packed.functions).toEqual(original.functions);
    expect(packed.opsetImport).toEqual(original.opsetImport);
    const kept = (packed.graph?.initializer ?? []).filter(({ name }) => /weight|cache/.test(name ?? ''));
    expect(kept).toEqual((original.graph?.initializer ?? []).filter(({ name }) => /weight|cache/.test(name ?? '')));
    const branch = (graph: Graph | null | undefined): Node | undefined => graph?.node?.find(({ opType }) => opType === 'If');
    expect(branch(packed.graph)).toEqual(branch(original.graph));
  });

  test('what only the attention nodes read is gone', () => {
    const { model } = pack(tinyDecoder({ bias: 'mask' })).model;
    const made = new Set(model.graph?.node?.flatMap(({ output }) => output ?? []));
    for (const dead of ['seqlens_k', 'total', 'bias_B1NA', 'bias_target']) expect(made.has(dead)).toBe(false);
    expect(opTypes(model)).not.toContain('GroupQueryAttention');
  });

  test('a value that only an If node’s branches read stays', async () => {
    const { model } = pack(tinyDecoder({ branch: true })).model;
    expect(model.graph?.node?.some(({ output }) => output?.includes('outer_zero'))).toBe(true);
    await (await openSession(model)).release();
  });
});

test('nodes a layer', () => {
  const perLayer = (decoder: Parameters<typeof tinyDecoder>[0], options?: Parameters<typeof rewrite>[1]): number => {
    const nodes = (layers: number): number => {
      const { report } = pack(tinyDecoder({ ...decoder, windows: Array(layers).fill(undefined) }), options);
      return report.nodesAfter - report.nodesBefore;
    };
    return nodes(3) - nodes(2);
  };
  /** Nodes of a layer's branch: 0 scores by axes, 1 by keys turned late. */
  const inBranch = (branch: 0 | 1): number => {
    const choice = pack(tinyDecoder({ rotary: 'axes' })).model.model.graph?.node?.find(({ opType }) => opType === 'If');
    return subgraphs(choice as Node)[branch]?.node?.length ?? 0;
  };
  const counts = {
    'grouped, post-rope': perLayer({}, { rotary: 'post-rope' }),
    'grouped, rotate-late': perLayer({}),
    'one head per key head, post-rope': perLayer({ numHeads: 2 }, { rotary: 'post-rope' }),
    'one head per key head, rotate-late': perLayer({ numHeads: 2 }),
    'keys rotated outside, post-rope': perLayer({ rotary: 'outside' }, { rotary: 'post-rope' }),
    'keys rotated outside, rotate-late': perLayer({ rotary: 'outside' }),
    'keys rotated by three axes, rotate-late': perLayer({ rotary: 'axes' }, { rotary: 'rotate-late' }),
    'keys rotated by three axes, m-rope, by axes': perLayer({ rotary: 'axes' }) + inBranch(0),
    'keys rotated by three axes, m-rope, late': perLayer({ rotary: 'axes' }) + inBranch(1),
    'fp16, rotate-late': perLayer({ type: DataType.FLOAT16 }),
    'WebGPU, rotate-late': perLayer({}, { provider: 'webgpu' }),
  };
  expect(counts).toMatchInlineSnapshot(`
    {
      "WebGPU, rotate-late": 37,
      "fp16, rotate-late": 39,
      "grouped, post-rope": 30,
      "grouped, rotate-late": 33,
      "keys rotated by three axes, m-rope, by axes": 70,
      "keys rotated by three axes, m-rope, late": 34,
      "keys rotated by three axes, rotate-late": 31,
      "keys rotated outside, post-rope": 28,
      "keys rotated outside, rotate-late": 31,
      "one head per key head, post-rope": 28,
      "one head per key head, rotate-late": 31,
    }
  `);
});

describe('the length of the past', () => {
  /** A decoder that numbers positions by the past's shape, as Optimum's exports do. */
  function countingDecoder(attributes: Record<string, number>): Model {
    const model = tinyDecoder({ givenPositions: true });
    const editor = new GraphEditor(model.graph as Graph);
    editor.removeInput('position_ids');
    const shape = editor.add('Shape', ['past_key_values.1.value'], 'past_shape', { attributes });
    const past = editor.add('Gather', [shape, editor.ints(attributes.start === undefined ? 2 : 2 - attributes.start)], 'past_length');
    const length = editor.add('Gather', [editor.add('Shape', ['inputs_embeds'], 'embeds_shape'), editor.ints(1)], 'length');
    const range = editor.add('Range', [past, editor.add('Add', [past, length], 'end'), editor.ints(1)], 'positions_N');
    editor.append('Unsqueeze', [range, editor.ints([0])], ['position_ids']);
    editor.sort();
    return model;
  }

  test.each([{}, { start: 1 }, { start: 1, end: 3 }])('Shape %j of a past counts all tokens, not the window', async (attributes) => {
    const model = countingDecoder(attributes as Record<string, number>);
    const packed = pack(model);
    expect(packed.report.refused).toEqual([]);
    const [before, after] = await Promise.all([openSession(model), openSession(packed.model.model)]);
    const random = randomNumbers(3);
    const embeds = Float32Array.from({ length: 8 * EMBED }, random);
    const mask = (length: number) => new ort.Tensor('int64', new BigInt64Array(length).fill(1n), [1, length]);
    const inputs = (from: number, to: number) => ({
      inputs_embeds: new ort.Tensor('float32', embeds.slice(from * EMBED, to * EMBED), [1, to - from, EMBED]),
      attention_mask: mask(to),
    });
    const empty = new ort.Tensor('float32', [], [1, 2, 0, 16]);
    const pasts = Object.fromEntries(before.inputNames.filter((name) => name.startsWith('past')).map((name) => [name, empty]));
    const first = await before.run({ ...inputs(0, 5), ...pasts });
    const presents = Object.fromEntries(
      Object.keys(pasts).map((name) => [name, first[name.replace('past_key_values', 'present')] as ort.Tensor]),
    );
    const wanted = numbers((await before.run({ ...inputs(5, 8), ...presents })).logits);

    const cache = new PlainCache(packed.shape, 1, { rotary: 'rotate-late', deal: 'packed' }, random);
    cache.append(await after.run({ ...inputs(0, 5), ...cache.feeds() }), 0);
    const seen = numbers((await after.run({ ...inputs(5, 8), ...cache.feeds() })).logits);
    expect(Math.max(...seen.map((x, i) => Math.abs(x - (wanted[i] as number))))).toBeLessThan(2e-5);
  });
});

test('a past behind Casts keeps the type of its input', () => {
  const model = tinyDecoder({ windows: [undefined] });
  const editor = new GraphEditor(model.graph as Graph);
  const node = editor.nodes.find(({ opType }) => opType === 'GroupQueryAttention') as Node;
  for (const [i, side] of ['key', 'value'].entries()) {
    const [past, present] = [`past_key_values.0.${side}`, `present.0.${side}`];
    editor.removeInput(past);
    editor.addInput(past, DataType.FLOAT16, ['batch_size', 2, 'past_sequence_length', 16]);
    (node.input as string[])[3 + i] = editor.add('Cast', [past], `${past}_f32`, { attributes: { to: DataType.FLOAT } });
    (node.output as string[])[1 + i] = `${present}_f32`;
    editor.append('Cast', [`${present}_f32`], [present], { attributes: { to: DataType.FLOAT16 } });
  }
  editor.sort();
  const { model: packed, shape, report } = pack(model);
  expect(report).toMatchObject({ rewritten: 1, refused: [] });
  expect(shape.windowType).toBe('float16');
  expect(described(packed.model.graph?.output)['present_new.0.key']).toMatch(/^10 /);
  expect(described(packed.model.graph?.output)['present.0.key']).toBeUndefined();
});

test('queries that see nothing give numbers, in every type', async () => {
  for (const type of [DataType.FLOAT, DataType.FLOAT16]) {
    for (const provider of ['cpu', 'webgpu'] as const) {
      // 11 slots of padding: the first chunk of the second sequence is padding altogether.
      const { maxDifference } = await compare({
        decoder: { type },
        lengths: [12, 1],
        chunks: [5, 7],
        numSteps: 1,
        rewrite: { provider },
        deal: { dummyRows: provider === 'webgpu' },
      });
      expect(maxDifference).toBeLessThan(type === DataType.FLOAT ? 2e-5 : 4 * 2 ** -9);
    }
  }
});
