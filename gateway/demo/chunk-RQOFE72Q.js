var k=["Make a table of contents","Turn this into tasks","Write a summary"];function S(e,n){let t=e.toLowerCase();return/content|toc|outline/.test(t)?p(n):/task|to-?do|check ?list/.test(t)?w(n):/summar|short|tl;?dr|brief/.test(t)?$(n):b(n)}function p(e){let n=l(e).filter(({level:s,title:o})=>s>1&&o!=="Contents");if(n.length===0)return h("The text has no headings of the second level, so there is nothing to list.");let t=n.map(({level:s,title:o})=>`${"  ".repeat(s-2)}- ${o}`);return{thought:`There are ${n.length} headings. The list belongs below the title.`,before:"I list the headings below the title. Keep typing, nothing of yours gets lost.",change:a(e,"Contents",`${t.join(`
`)}
`,"below the title"),after:`Done: **${n.length} headings** are listed under *Contents*.`}}function w(e){let n=d(e).filter(s=>/\b(must|need|needs|should|will|todo|wants?|open)\b/i.test(s)),t=n.length>0?n.slice(0,6):l(e).map(({title:s})=>`Finish \u201C${s}\u201D`);return t.length===0?h("I find nothing in the text that would be a task."):{thought:`${t.length} sentences sound like work. Each becomes a line that can be ticked off.`,before:`I collect what sounds like work, and write it to the end of the file:

${t.map(s=>`- ${s}`).join(`
`)}`,change:a(e,"Tasks",`${t.map(s=>`- [ ] ${s}`).join(`
`)}
`,"at the end"),after:`Done: **${t.length} tasks** at the end of the file.`}}function $(e){let n=d(e);if(n.length===0)return h("The text is empty, so there is nothing to sum up.");let t=e.split(/\s+/).filter(Boolean).length,s=n.slice(0,2).join(" ");return{thought:`${t} words in ${n.length} sentences. The first ones say what it is about.`,before:"I write a short summary below the title.",change:a(e,"In short",`${s}
`,"below the title"),after:`Done. The file has ${t} words; the summary has ${s.split(/\s+/).length}.`}}function b(e){return{thought:"I know no rule for this. Some next steps never hurt.",before:"I am a script without a model: I can make a **table of contents**, collect **tasks** and write a **summary**. Here are some next steps instead.",change:a(e,"Next steps",`${["Read this text once more, together","Agree on who does what","Look at the history to see who wrote which line"].map((t,s)=>`${s+1}. ${t}`).join(`
`)}
`,"at the end"),after:"Done. Connect your own agent to have real work done: choose *Your own agent* below."}}function h(e){return{thought:"I look at what is there.",before:e,change:null,after:"I changed nothing."}}function a(e,n,t,s){let o=l(e),c=o.findIndex(r=>r.level===2&&r.title===n),g=o[c];if(g!==void 0){let r=o.slice(c+1).find(({level:m})=>m<=2);return{start:g.start,end:r?.start??e.length,text:`## ${n}

${t}${r?`
`:""}`}}let i=o[0];if(s==="at the end"||i===void 0||i.level>1){let r=e===""||e.endsWith(`

`)?"":e.endsWith(`
`)?`
`:`

`;return{start:e.length,end:e.length,text:`${r}## ${n}

${t}`}}let u=Math.min(i.end+1,e.length),f=e.length>i.end?`
`:`

`;return{start:u,end:u,text:`${f}## ${n}

${t}`}}function l(e){return[...e.replaceAll(/^```[\s\S]*?^```/gm,t=>" ".repeat(t.length)).matchAll(/^(#{1,6}) +(.+?) *$/gm)].map(t=>({level:t[1]?.length??1,title:t[2]??"",start:t.index,end:t.index+t[0].length}))}function d(e){return e.replaceAll(/^## (Contents|Tasks|In short|Next steps)\n[\s\S]*?(?=^## |$(?![\s\S]))/gm,"").split(`
`).filter(o=>!/^(#|>|```|\||---)/.test(o.trim())).map(o=>o.trim().replace(/^([-*]|\d+\.) +(\[.\] +)?/,"")).flatMap(o=>o.match(/[^.!?]+[.!?]?/g)??[]).map(o=>o.trim()).filter(o=>o.length>12)}export{k as a,S as b};
