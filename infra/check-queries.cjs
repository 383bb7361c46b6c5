// Reads the queries of the alerts with Microsoft's own KQL parser, which also knows the columns.
// Run: node infra/check-queries.cjs [FILE]; ends with 1 and the diagnostics when there are some.
const fs = require("fs");
const path = require("path");

const library = "@kusto/language-service-next/";
require(library + "bridge.min.js");
require(library + "Kusto.Language.Bridge.min.js");

// The columns that Application Insights fills in a workspace.
const COMMON = "TimeGenerated: datetime, OperationName: string, Properties: dynamic, ItemCount: int";
const TABLES = {
  AppRequests: `${COMMON}, Name: string, Success: bool, DurationMs: real, ResultCode: string`,
  AppTraces: `${COMMON}, Message: string, SeverityLevel: int`,
};

const { GlobalState, KustoCode, Symbols } = Kusto.Language;
const tables = Object.entries(TABLES).map(([name, columns]) =>
  Symbols.TableSymbol.From(`(${columns})`).WithName(name));
const database = new Symbols.DatabaseSymbol.$ctor1("logs", tables);
const globals = GlobalState.Default.WithDatabase(database);

const file = process.argv[2] || path.join(__dirname, "modules", "alerts.bicep");
const text = fs.readFileSync(file, "utf8");
const queries = [...text.matchAll(/^var (\w+) = '''\n(.*?)'''/gms)];
let problems = queries.length ? 0 : 1;
for (const [, name, template] of queries) {
  const query = template.replace("DEPLOYED", "2026-11-24T00:00:00");
  const found = KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
  for (let index = 0; index < found.Count; index += 1) {
    const one = found.getItem(index);
    const line = query.slice(0, one.Start).split("\n").length;
    console.error(`${name}, line ${line}: ${one.Message}`);
    problems += 1;
  }
}
process.exit(problems ? 1 : 0);
