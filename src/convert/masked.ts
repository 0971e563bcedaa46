/** Scores of keys that no one may see. Finite: a row that sees nothing must not become NaN. In float16 also after scores are added. */
import { DataType } from '../onnx/index.ts';

export const MASKED = { [DataType.FLOAT]: -3.4028234663852886e38, [DataType.FLOAT16]: -30000 };
