/** Figures in README.md and in the model cards are those of committed results. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { table, withTables } from '../bench/tables/blocks.ts';
import { DOCUMENTS } from '../bench/tables/documents.ts';
import { render } from '../bench/tables/render.ts';
import { PACKAGE_ROOT } from '../src/cli/embedded.ts';

test.each(DOCUMENTS)("%s says what bench/results says; 'npm run tables' makes it so", (document) => {
  const text = readFileSync(path.join(PACKAGE_ROOT, document), 'utf8');
  expect(withTables(text, render)).toBe(text);
});

describe('tables', () => {
  test('replace what stood between their marks and nothing else', () => {
    const text = 'before\n<!-- table: one a b -->\nold\n<!-- end of table -->\nafter\n';
    const made = withTables(text, (name, args) => `${name}(${args.join()})`);
    expect(made).toBe('before\n<!-- table: one a b -->\n\none(a,b)\n\n<!-- end of table -->\nafter\n');
    expect(withTables(made, (name, args) => `${name}(${args.join()})`)).toBe(made);
  });

  test('have a head, a rule and rows', () => {
    expect(table(['a', 'b'], [['1', '']])).toBe('| a | b |\n| --- | --- |\n| 1 | |');
  });

  test('of an unknown name are refused', () => {
    expect(() => render('nothing', [])).toThrow("there is no table 'nothing'; there are scores");
  });
});
