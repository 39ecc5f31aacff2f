"""The style of the report's page: light and dark, wide and narrow, on paper."""

PAGE_STYLE = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1a1c1f;--soft:#565b63;--line:#d9dce1;\
--box:#f5f6f8;--hit:#0072b2;--miss:#d55e00;--good:#0b6b43;--bad:#a33c00;\
--bpcore-0:#0072b2;--bpcore-1:#c65102;--bpcore-2:#00795a;--bpcore-3:#9c4a80}
@media(prefers-color-scheme:dark){:root{--paper:#15171a;--ink:#e7e9ec;--soft:#a7adb6;\
--line:#363a41;--box:#1e2126;--hit:#3f9bdc;--miss:#e07b32;--good:#4fc492;--bad:#f09a5c;\
--bpcore-0:#56b4e9;--bpcore-1:#ee9450;--bpcore-2:#3fbf95;--bpcore-3:#d78fb8}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);\
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main,footer{max-width:62rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:1.5rem}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}
header p{margin:0;color:var(--soft);overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:1rem;margin:1rem 0 .25rem}
p{margin:.5rem 0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;\
margin:1.25rem 0 0}
.tiles div{background:var(--box);border:1px solid var(--line);border-radius:.4rem;\
padding:.5rem .75rem}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;overflow-wrap:anywhere}
.tiles b{display:block;font-size:1.35rem;line-height:1.3}
.tiles span{color:var(--soft);font-size:.85rem}
.bpcore table{font-size:.93rem}
.bpcore th,.bpcore td{border-color:var(--line);overflow-wrap:break-word}
.bpcore caption{font-weight:400;color:var(--soft)}
.bpcore .good{color:var(--good)}.bpcore .bad{color:var(--bad)}
.confusion{border-spacing:0;min-width:min(100%,18rem)}
.bpcore .confusion td{min-width:3rem;--share:0%}
.confusion .hit{background:color-mix(in srgb,var(--hit) calc(var(--share)*.45),transparent)}
.confusion .miss{background:color-mix(in srgb,var(--miss) calc(var(--share)*.6 + 14%),transparent)}
.bpcore svg{display:block;margin:.75rem 0}
.pair{display:flex;flex-wrap:wrap;gap:0 1.5rem;align-items:flex-start}
.pair>div{flex:1 1 24rem;min-width:0;max-width:100%}
.pair>div:has(table){flex-basis:max-content}
pre{background:var(--box);border:1px solid var(--line);border-radius:.4rem;padding:.6rem .8rem;\
overflow-x:auto;font:.88rem/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
footer{margin-top:2rem;padding-top:.75rem;padding-bottom:1.5rem;color:var(--soft);font-size:.85rem}
@media(max-width:45rem){.bpcore table{font-size:.85rem}.bpcore th,.bpcore td{padding:.2em .4em}}
@media(max-width:32rem){main,footer{padding:0 .9rem}.bpcore tbody th{white-space:normal}
.bpcore th,.bpcore td{padding:.2em .25em}.bpcore table{font-size:.82rem}}
@media print{:root{color-scheme:light;--paper:#fff;--ink:#000;--soft:#444;--line:#bbb;--box:#fff;\
--hit:#0072b2;--miss:#d55e00;--good:#0b6b43;--bad:#a33c00;\
--bpcore-0:#0072b2;--bpcore-1:#c65102;--bpcore-2:#00795a;--bpcore-3:#9c4a80}
body{font-size:10.5pt}main,footer{max-width:none;padding:0}
h2,h3,caption{break-after:avoid}svg,tr,.tiles,.pair,pre{break-inside:avoid}
.wide,pre{overflow:visible}pre{white-space:pre-wrap}
td,.tiles div{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""
