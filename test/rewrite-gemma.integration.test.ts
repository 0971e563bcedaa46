/** The three published Gemma 3 decoder graphs: every attention node rewritten, and the same logits, with synthetic weights in narrower layers. */
import { describe, expect, test } from 'vitest';
import { rewrite } from '../src/rewrite.ts';
import { compareModel } from './support/compare.ts';
import { GEMMA_VARIANTS, gemma, smallGemma } from './support/gemma.ts';

/** fp16 logits of 2 to 4 have neighbours 2^-9 apart; see rewrite-types.test.ts. */
const tolerance = (variant: string): number => (variant === 'q4f16' ? 4 * 2 ** -9 : 2e-5);

describe.each(GEMMA_VARIANTS)('%s', (variant) => {
  test.each(['cpu', 'webgpu'] as const)('as published: 34 nodes, none refused, %s', (provider) => {
    const { report, shape } = rewrite({ model: gemma(variant), path: `${variant}.onnx` }, { provider });
    expect(report).toMatchObject({ rewritten: 34, refused: [], rotary: 'rotate-late' });
    expect(shape.layers.filter(({ localWindow }) => localWindow === 1024)).toHaveLength(29);
    expect(shape.windowType).toBe(variant === 'q4f16' ? 'float16' : 'float32');
  });

  test('first six layers, the global one among them', async () => {
    const rotary = variant === 'q8' ? 'post-rope' : 'rotate-late';
    const { maxDifference, maxLogit, report } = await compareModel(smallGemma(variant, { numLayers: 6, localWindow: 24 }), {
      rewrite: { rotary },
      lengths: [40],
      chunks: [25, 15],
      numSteps: 20,
      deal: { maxSegments: 2 },
    });
    expect(report.rewritten).toBe(6);
    expect(maxLogit).toBeGreaterThan(1);
    expect(maxDifference).toBeLessThan(tolerance(variant));
  });

  test('all 34 layers', async () => {
    const { maxDifference, report } = await compareModel(smallGemma(variant), {
      lengths: [8, 5],
      chunks: [8],
      numSteps: 1,
      deal: { maxSegments: 1 },
    });
    expect(report.rewritten).toBe(34);
    expect(maxDifference).toBeLessThan(tolerance(variant));
  });
});
