import"./chunk-743GJO2B.js";import{k as g}from"./chunk-UV2JKOFN.js";import{a as k,b as v}from"./chunk-NS2S7WUV.js";import{J as m,M as b,N as y,fa as c,ga as T}from"./chunk-MRHFUFPO.js";import"./chunk-DSCY2RTI.js";import"./chunk-OOJM4CTU.js";var s="Maya",i="Jonas",p="Scribe",Y=`# Welcome

This is a project in which **people and agents write in the same files**. Everything you see goes over plain HTTP.

## Three things to try

1. Open a second window (top right) and put both side by side. Type in one, watch the other.
2. Ask the agent on the right for a *table of contents*, and keep typing while it writes.
3. Open **History** and go back to any version. Nothing is lost.

## What the panes are

| Pane | |
| --- | --- |
| Files | texts and rich documents, search with Ctrl+P, and a bin |
| Agent | sessions with turns: what was asked, done and written |
| Cost | what it costs to be up to date, beside fetching whole files |

Every pane has a *How* button: the same in \`curl\` and in TypeScript.
`,F=[`# Launch of the field notebook

A notebook for people who work outside: it must work without a network.
`,`
## Why now

The pilot with two ranger stations went well. Both stations want to keep it.
`,`Paper forms need two days to reach the office. The notebook needs none.
`,`
## Who it is for

- Rangers, who write with cold fingers
- The office, which reads the same evening
`,`- Volunteers, who come for one weekend
`,`
## What it does

Notes are kept on the device and merged when there is a network.
`,`Two people can write in one note at the same time.
`,`
## Risks

The batteries of the old tablets should be tested in the cold.
`,`We need a translation for the northern stations.
`,`
## Dates

The stations get it on 3 March. The public page will follow a week later.
`],A=[`# Tasks

- [ ] Test the tablets at \u221210 \xB0C
- [ ] Write the public page
`,`# Tasks

- [x] Test the tablets at \u221210 \xB0C
- [ ] Write the public page
`,`# Tasks

- [x] Test the tablets at \u221210 \xB0C
- [ ] Write the public page
- [ ] Ask the northern stations for a translation
`,`# Tasks

- [x] Test the tablets at \u221210 \xB0C
- [ ] Write the public page (Maya)
- [ ] Ask the northern stations for a translation (Jonas)
`,`# Tasks

- [x] Test the tablets at \u221210 \xB0C
- [ ] Write the public page (Maya)
- [ ] Ask the northern stations for a translation (Jonas)
- [ ] Print forty short guides
`,`# Tasks

- [x] Test the tablets at \u221210 \xB0C
- [x] Write the public page (Maya)
- [ ] Ask the northern stations for a translation (Jonas)
- [ ] Print forty short guides
`],E=[`# Interviews

## Station East

\u201CWe write when we are back, and forget half of it.\u201D
`,`
## Station North

\u201CThe forms are in the wrong language, so nobody fills in the last page.\u201D
`,`\u201CA photo says more than my handwriting.\u201D
`,`
## The office

\u201COn Mondays we type for three hours what they wrote on paper.\u201D
`,`
In common: nobody wants a second tool. It should open where the last note ended.
`],C=[`station,notes_per_week,hours_saved
east,41,6
`,`station,notes_per_week,hours_saved
east,41,6
north,38,5
`,`station,notes_per_week,hours_saved
east,44,7
north,38,5
south,12,2
`],S=[{path:"Welcome.md",versions:[{author:s,text:Y}]},{path:"launch/brief.md",versions:_(F,[s,s,i,s,i,p,p,s,i,s])},{path:"launch/tasks.md",versions:d(A,[i,i,p,s,s,i])},{path:"notes/interviews.md",versions:_(E,[i,i,s,s,p])},{path:"data/pilot.csv",versions:d(C,[i,p,s])}],f={path:"notes/names we did not take.md",versions:d([`# Names

- Trailbook
- Outnote
`,`# Names

- Trailbook
- Outnote
- Mud & Ink
`],[s,i])},I="launch/press release",P=[{author:s,blocks:[["h1","A notebook that works where the network ends"],["p","From 3 March the rangers of two stations write their notes *once*: outside, on the device that they carry."]]},{author:i,blocks:[["h2","What is new"],["li","Notes of *several people* become one text, without a lost word"],["li","Every earlier state of a note can be read and brought back"],["li","The office reads in the evening what was written in the morning"]]},{author:s,blocks:[["p","\u201CWe got back our Mondays,\u201D says the head of the office."]]}],w={title:"Plan the launch",prompt:"Look through the interviews. What do all of them have in common?",blocks:[{type:"thinking",content:"Three interviews. I look for wishes that come up more than once."},{type:"tool_use",content:{id:"1",name:"Read",input:{file_path:"notes/interviews.md"}}},{type:"tool_result",content:{tool_use_id:"1",content:E.slice(0,4).join(""),is_error:!1}},{type:"text",content:`Two things come up **everywhere**:

- nobody wants a *second tool*
- writing twice costs the most time`},{type:"tool_use",content:{id:"2",name:"Edit",input:{file_path:"notes/interviews.md"}}},{type:"tool_result",content:{tool_use_id:"2",content:"1 line added",is_error:!1}},{type:"text",content:"I wrote it below the interviews."}]};function _(t,e){return d(t.map((o,n)=>t.slice(0,n+1).join("")),e)}function d(t,e){return t.map((o,n)=>({author:e[n]??s,text:o}))}var J="Welcome.md";async function B(t){let[e,...o]=S;if(e===void 0)return!1;try{await R(t,e,!0)}catch(n){if(g(n,"precondition_failed"))return!1;throw n}for(let n of[...o,f])await R(t,n);return await t("Maya").delete(f.path),await M(t),await L(t("Maya")),!0}async function R(t,{path:e,versions:o},n=!1){let a=new m;for(let{author:r,text:h}of o){let l=x(a,()=>O(a.getText(k),h));await t(r).appendUpdate(e,l,{create:n})}}async function M(t){let e=new m,o=e.getXmlFragment(v);for(let{author:n,blocks:a}of P){let r=x(e,()=>{for(let[h,l]of a)N(o,h,l)});await t(n).appendUpdate(I,r)}}async function L(t){let e=await t.createSession(w.title),o=await t.createTurn(e.id,w.prompt);await t.appendBlocks(e.id,o.id,w.blocks),await t.setTurnStatus(e.id,o.id,"completed")}function x(t,e){let o=y(t);return t.transact(e),b(t,o)}function O(t,e){let o=t.toString(),n=0;for(;n<Math.min(o.length,e.length)&&o[n]===e[n];)n+=1;let a=0,r=Math.min(o.length,e.length)-n;for(;a<r&&o[o.length-1-a]===e[e.length-1-a];)a+=1;t.delete(n,o.length-n-a),t.insert(n,e.slice(n,e.length-a))}function N(t,e,o){if(e!=="li"){let u=new c(e==="p"?"paragraph":"heading");e!=="p"&&u.setAttribute("level",Number(e.slice(1))),u.insert(0,[W(o)]),t.push([u]);return}let n=t.length>0?t.get(t.length-1):null,a=n instanceof c&&n.nodeName==="bulletList",r=a?n:new c("bulletList");a||t.push([r]);let[h,l]=[new c("listItem"),new c("paragraph")];l.insert(0,[W(o)]),h.insert(0,[l]),r.push([h])}function W(t){let e=new T;return e.applyDelta(t.split("*").map((o,n)=>({insert:o,attributes:n%2===1?{bold:{}}:{}})).filter(({insert:o})=>o!=="")),e}export{J as FIRST_FILE,B as fillWithSample};
