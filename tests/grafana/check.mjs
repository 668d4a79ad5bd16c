// Holds the dashboards of deploy/grafana against the types that Grafana's own schema makes: a wrong name or value of a
// field is an error of the compiler.
//
//   node check.mjs
import fs from 'node:fs';
import path from 'node:path';
import ts from 'typescript';

const here = import.meta.dirname;
const folder = path.join(here, '../../deploy/grafana');
const dashboards = fs.readdirSync(folder).filter((name) => name.endsWith('.json'));
// Enums are their values in JSON; options of a panel belong to its plugin.
const head = `import type { Dashboard, Panel, RowPanel } from '@grafana/schema';
type Json<T> = T extends string ? \`\${T}\` : T extends (infer U)[] ? Json<U>[] : T extends object ? { [K in keyof T]: Json<T[K]> } : T;
type Checked = Json<Omit<Dashboard, 'panels'>> & { panels: (Json<Panel> | Json<RowPanel>)[] };
export const dashboard: Checked = `;

function errors(text) {
  const file = path.join(here, 'dashboard.check.ts');
  const options = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const { readFile, fileExists } = host;
  host.readFile = (name) => (name === file ? text : readFile(name));
  host.fileExists = (name) => name === file || fileExists(name);
  const { getSourceFile } = host;
  host.getSourceFile = (name, version) =>
    name === file ? ts.createSourceFile(name, text, version) : getSourceFile(name, version);
  const program = ts.createProgram([file], options, host);
  return ts.getPreEmitDiagnostics(program).map((found) => {
    const line = found.file && found.start !== undefined ? found.file.getLineAndCharacterOfPosition(found.start).line - 3 : 0;
    return `line ${line}: ${ts.flattenDiagnosticMessageText(found.messageText, ' ')}`;
  });
}

let failed = dashboards.length === 0;
for (const name of dashboards) {
  const text = fs.readFileSync(path.join(folder, name), 'utf8');
  const found = errors(`${head}${text};\n`);
  for (const error of found) console.error(`${name}: ${error}`);
  failed ||= found.length > 0;
  // The check itself must be able to fail.
  const broken = [text.replace('"schemaVersion"', '"schemaVersions"'), text.replace('"absolute"', '"absolut"')];
  for (const wrong of broken) {
    if (errors(`${head}${wrong};\n`).length === 0) {
      console.error(`${name}: a wrong field was not found`);
      failed = true;
    }
  }
}
if (failed) process.exit(1);
console.log(`${dashboards.join(', ')}: as Grafana's schema has it`);
