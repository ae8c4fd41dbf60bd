"""The style sheet of the report: one column of sections, light or dark as the reader's system."""

CSS = """
:root { color-scheme: light dark; --page: #faf9f6; --card: #ffffff; --ink: #23262b;
  --soft: #686d75; --line: #e2dfd8; --accent: #23678f; --second: #b4651b; --good: #23784a;
  --bad: #b03a2e; --good-page: #eef6f0; --bad-page: #faf0ee; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1d2024; --ink: #e5e3de;
  --soft: #9ba1a9; --line: #33373d; --accent: #7db8de; --second: #e3a35f; --good: #72c492;
  --bad: #ea8c7f; --good-page: #19251e; --bad-page: #2a1d1b; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1200px; margin: 0 auto; padding: 40px 28px 72px; }
h1 { font-size: 30px; line-height: 1.2; letter-spacing: -0.01em; margin: 2px 0 20px; }
h2 { font-size: 20px; line-height: 1.3; margin: 52px 0 6px; }
h3 { font-size: 15px; margin: 0 0 6px; }
p { margin: 0 0 12px; max-width: 76ch; }
.soft, .note { color: var(--soft); }
.note { font-size: 14px; }
.verdict { border-left: 4px solid var(--bad); background: var(--bad-page); padding: 16px 20px;
  border-radius: 0 8px 8px 0; }
.verdict.looks { border-color: var(--good); background: var(--good-page); }
.verdict p { margin: 0; max-width: 88ch; color: var(--soft); }
.verdict p:first-child { font-size: 18px; line-height: 1.45; color: var(--ink); }
.verdict p + p { margin-top: 8px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px;
  margin: 22px 0 0; }
.tile, figure, .picture { background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.tile { padding: 14px 16px; font-size: 14px; color: var(--soft); }
.tile b { display: block; font-size: 27px; line-height: 1.25; font-weight: 600; color: var(--ink);
  font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: 14px 0 6px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--card); }
table { border-collapse: separate; border-spacing: 0; font-size: 13.5px;
  font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 8px 5px; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { padding-left: 14px; } th:last-child, td:last-child { padding-right: 14px; }
td { white-space: nowrap; }
th { font-weight: 500; color: var(--soft); line-height: 1.3; }
thead th { vertical-align: bottom; }
th.group { text-align: left; color: var(--ink); font-weight: 600; }
.edge { border-left: 1px solid var(--line); }
tbody th { text-align: left; color: var(--ink); position: sticky; left: 0; background: inherit;
  min-width: 118px; }
tbody tr { background: var(--card); }
tr.own { background: var(--good-page); font-weight: 600; }
tr.own th { font-weight: 600; }
tr.control th { padding-left: 24px; }
td small { display: block; font-weight: 400; color: var(--soft); font-size: 12px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr));
  gap: 16px; margin: 14px 0 0; }
figure { margin: 0; padding: 14px 14px 8px; min-width: 0; }
.key { display: flex; flex-wrap: wrap; gap: 2px 16px; font-size: 13px; color: var(--soft); }
.key i { display: inline-block; width: 14px; height: 3px; margin-right: 6px;
  vertical-align: middle; border-radius: 2px; }
.key i.c0 { background: var(--accent); } .key i.c1 { background: var(--second); }
.key i.c2 { background: var(--good); } .key i.c3 { background: var(--bad); }
svg { display: block; width: 100%; height: auto; }
svg text { font-size: 14px; fill: var(--soft); font-variant-numeric: tabular-nums; }
.wide svg text { font-size: 12.5px; }
.grid { stroke: var(--line); stroke-width: 1; } .base { stroke: var(--soft); stroke-width: 1; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.line.c0 { stroke: var(--accent); } .line.c1 { stroke: var(--second); }
.line.c2 { stroke: var(--good); } .line.c3 { stroke: var(--bad); }
.dot.c0 { fill: var(--accent); } .dot.c1 { fill: var(--second); }
.dot.c2 { fill: var(--good); } .dot.c3 { fill: var(--bad); }
.point { fill: var(--accent); fill-opacity: 0.5; } .identity { stroke: var(--soft);
  stroke-dasharray: 5 4; } .cross { stroke: var(--bad); stroke-width: 1.6; fill: none; }
th:first-child { text-align: left; }
td.reason { white-space: normal; text-align: left; min-width: 160px; color: var(--soft); }
svg .label { paint-order: stroke; stroke: var(--card); stroke-width: 5px; }
a { color: var(--accent); } .broad { border: 0; min-width: 680px; }
.snug { width: fit-content; max-width: 100%; }
.confusion { width: auto; } .wide { grid-template-columns: minmax(0, 520px); }
.confusion td { text-align: center; padding: 7px 5px; min-width: 36px;
  background: color-mix(in srgb, var(--tone) calc(var(--share) * 70%), transparent); }
.confusion td.right { --tone: var(--good); } .confusion td.wrong { --tone: var(--bad); }
.confusion thead th { text-align: center; }
.confusion .row-name { white-space: normal; max-width: 40vw; overflow-wrap: break-word; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(236px, 100%), 1fr));
  gap: 16px; margin: 14px 0 0; }
.picture { overflow: hidden; display: flex; flex-direction: column; min-width: 0; }
.strip { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 1px; height: 212px;
  background: #f0efec; border-bottom: 1px solid var(--line); }
.strip img { width: 100%; height: 100%; min-height: 0; object-fit: contain; display: block; }
.strip span { align-self: center; padding: 0 16px; text-align: center; font-size: 13px;
  color: #6b6660; }
.answer { padding: 10px 14px 14px; font-size: 14px; line-height: 1.4; }
.answer .id { color: var(--soft); font-size: 12px; }
.answer dl { margin: 0; } .answer dt { color: var(--soft); font-size: 12px; margin-top: 8px; }
.answer dd { margin: 0; } .answer .truth { color: var(--soft); margin-top: 1px; }
.mark { font-weight: 600; } .right > .mark { color: var(--good); }
.wrong > .mark { color: var(--bad); } .near > .mark { color: var(--second); }
.raw { margin-top: 10px; font-size: 13px; }
details { margin: 12px 0 0; } summary { cursor: pointer; color: var(--accent); }
pre { white-space: pre-wrap; font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono", monospace; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; padding: 14px 16px; margin: 10px 0 0; }
.facts { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 4px 20px;
  font-size: 14px; margin: 12px 0 0; } .facts dt { color: var(--soft); } .facts dd { margin: 0; }
@media (max-width: 560px) { main { padding: 26px 16px 48px; } h1 { font-size: 25px; }
  h2 { margin-top: 42px; } .tiles { grid-template-columns: 1fr 1fr; gap: 10px; }
  .tile { padding: 11px 12px; } .tile b { font-size: 22px; } .verdict { padding: 14px 15px; }
  .verdict p:first-child { font-size: 17px; } th, td { padding: 7px 9px; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dt { margin-top: 8px; }
  .picture { flex-direction: row; } .strip { flex: 0 0 40%; height: auto; min-height: 140px;
  grid-auto-flow: row; border: 0; border-right: 1px solid var(--line); } .answer { min-width: 0; } }
@media print { body { background: #fff; } .picture, figure { break-inside: avoid; } }
"""
