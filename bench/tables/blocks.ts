/** Tables in Markdown between `<!-- table: name arguments -->` and `<!-- end of table -->`: found, made anew and put back. */

const BLOCK = /(<!-- table: (.+?) -->\n)([\s\S]*?)(<!-- end of table -->)/g;

/** Text with every table made anew by `render(name, arguments)`. */
export function withTables(markdown: string, render: (name: string, args: readonly string[]) => string): string {
  return markdown.replace(BLOCK, (_, open: string, call: string, _old: string, close: string) => {
    const [name = '', ...args] = call.split(' ');
    return `${open}\n${render(name, args)}\n\n${close}`;
  });
}

/** A Markdown table; numbers and names only, so nothing is escaped. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`.replaceAll('|  |', '| |')).join('\n');
}

/** 0.9558 -> "95.6"; scores are said in per cent. */
export const percent = (share: number, digits = 1): string => (100 * share).toFixed(digits);
