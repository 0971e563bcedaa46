/** Attributes of nodes as plain values, both ways. */
import Long from 'long';
import { assert } from '../errors.ts';
import { type Attribute, AttributeType, type Graph, type Node, type Tensor } from './proto.ts';

/** Says that a number is a FLOAT attribute; a plain number is an INT, a bigint one of the full 64 bits. */
export interface FloatValue {
  readonly float: number;
}
export const float = (value: number): FloatValue => ({ float: value });

export type AttributeValue =
  | number
  | bigint
  | string
  | FloatValue
  | readonly number[]
  | { readonly tensor: Tensor }
  | { readonly graph: Graph };

const text = new TextEncoder();

export function makeAttribute(name: string, value: AttributeValue): Attribute {
  if (typeof value === 'number') {
    assert(Number.isSafeInteger(value), `attribute ${name} = ${value} is no integer: write float(${value}), or a bigint beyond 2^53`);
    return { name, type: AttributeType.INT, i: value };
  }
  if (typeof value === 'bigint') {
    assert(BigInt.asIntN(64, value) === value, `attribute ${name} = ${value} does not fit 64 bits`);
    return { name, type: AttributeType.INT, i: Long.fromString(value.toString()) };
  }
  if (typeof value === 'string') return { name, type: AttributeType.STRING, s: text.encode(value) };
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  if ('tensor' in value) return { name, type: AttributeType.TENSOR, t: value.tensor };
  if ('graph' in value) return { name, type: AttributeType.GRAPH, g: value.graph };
  return { name, type: AttributeType.INTS, ints: [...value] };
}

export function attribute(node: Node, name: string): Attribute | undefined {
  return node.attribute?.find((candidate) => candidate.name === name);
}

export function intAttribute(node: Node, name: string, fallback: number): number {
  return Number(attribute(node, name)?.i ?? fallback);
}

export function floatAttribute(node: Node, name: string, fallback: number): number {
  return attribute(node, name)?.f ?? fallback;
}

export function stringAttribute(node: Node, name: string, fallback: string): string {
  const value = attribute(node, name)?.s;
  return value ? new TextDecoder().decode(value) : fallback;
}

export function intsAttribute(node: Node, name: string): number[] | undefined {
  return attribute(node, name)?.ints?.map(Number);
}
