function T(t){return t<1e3?`${Math.round(t)} B`:t<1e6?`${(t/1e3).toFixed(1)} kB`:`${(t/1e6).toFixed(1)} MB`}function C(t){return new Date(t).toLocaleString(void 0,{dateStyle:"medium",timeStyle:"medium"})}function v(t,s=Date.now()){let n=Math.round((new Date(t).getTime()-s)/1e3);if(n>-45)return"just now";let[o,e]=b.find(([,a])=>-n>=a)??["minute",60];return $.format(Math.min(Math.round(n/e),-1),o)}var $=new Intl.RelativeTimeFormat("en",{numeric:"always"}),b=[["day",86400],["hour",3600],["minute",60]];function i(t,s){return`${t.toLocaleString("en")} ${s}${t===1?"":"s"}`}function y(t){return t.slice(t.lastIndexOf("/")+1)}var M=["Make a table of contents","Turn this into tasks","Write a summary"],f=["Contents","Tasks","In short","Next steps"];function j(t,s){let n=t.toLowerCase();return/content|toc|outline/.test(n)?k(s):/task|to-?do|check ?list/.test(n)?S(s):/summar|short|tl;?dr|brief/.test(n)?I(s):x(s)}function k(t){let s=u(t).filter(({level:o,title:e})=>o>1&&!f.includes(e));if(s.length===0)return c("The text has no headings of the second level, so there is nothing to list.");let n=s.map(({level:o,title:e})=>`${"  ".repeat(o-2)}- ${e}`);return{thought:`${i(s.length,"heading")}. The list belongs below the title.`,before:"I list the headings below the title. Keep typing, nothing of yours gets lost.",change:h(t,"Contents",`${n.join(`
`)}
`,"below the title"),after:`Done: **${i(s.length,"heading")}** listed under *Contents*.`}}function S(t){let s=m(t).filter(e=>/\b(must|need|needs|should|will|todo|wants?|open)\b/i.test(e)),n=u(t).filter(({level:e,title:a})=>e>1&&!f.includes(a)),o=s.length>0?s.slice(0,6):n.map(({title:e})=>`Finish \u201C${e}\u201D`);return o.length===0?c("I find nothing in the text that would be a task."):{thought:`${i(o.length,"line")} of the text: work that can be ticked off.`,before:`I collect what sounds like work, and write it to the end of the file:

${o.map(e=>`- ${e}`).join(`
`)}`,change:h(t,"Tasks",`${o.map(e=>`- [ ] ${e}`).join(`
`)}
`,"at the end"),after:`Done: **${i(o.length,"task")}** at the end of the file.`}}function I(t){let s=m(t);if(s.length===0)return c("The text is empty, so there is nothing to sum up.");let n=t.split(/\s+/).filter(Boolean).length,o=s.slice(0,2).join(" ");return{thought:`${i(n,"word")} in ${i(s.length,"sentence")}. The first ones say what it is about.`,before:"I write a short summary below the title.",change:h(t,"In short",`${o}
`,"below the title"),after:`Done. The file has ${n} words; the summary has ${o.split(/\s+/).length}.`}}function x(t){return{thought:"I know no rule for this. Some next steps never hurt.",before:"I am a script without a model: I can make a **table of contents**, collect **tasks** and write a **summary**. Here are some next steps instead.",change:h(t,"Next steps",`${["Read this text once more, together","Agree on who does what","Look at the history to see who wrote which line"].map((n,o)=>`${o+1}. ${n}`).join(`
`)}
`,"at the end"),after:"Done. Connect your own agent to have real work done: choose *Your own agent* below."}}function c(t){return{thought:"I look at what is there.",before:t,change:null,after:"I changed nothing."}}function h(t,s,n,o){let e=u(t),a=e.findIndex(r=>r.level===2&&r.title===s),g=e[a];if(g!==void 0){let r=e.slice(a+1).find(({level:w})=>w<=2);return{start:g.start,end:r?.start??t.length,text:`## ${s}

${n}${r?`
`:""}`}}let l=e[0];if(o==="at the end"||l===void 0||l.level>1){let r=t===""||t.endsWith(`

`)?"":t.endsWith(`
`)?`
`:`

`;return{start:t.length,end:t.length,text:`${r}## ${s}

${n}`}}let d=Math.min(l.end+1,t.length),p=t.length>l.end?`
`:`

`;return{start:d,end:d,text:`${p}## ${s}

${n}`}}function u(t){return[...t.replaceAll(/^```[\s\S]*?^```/gm,n=>" ".repeat(n.length)).matchAll(/^(#{1,6}) +(.+?) *$/gm)].map(n=>({level:n[1]?.length??1,title:n[2]??"",start:n.index,end:n.index+n[0].length}))}function m(t){return t.replaceAll(/^## (?:Contents|Tasks|In short|Next steps)\n[\s\S]*?(?=^## |$(?![\s\S]))/gm,"").split(`
`).filter(e=>!/^(#|>|```|\||---)/.test(e.trim())).map(e=>e.trim().replace(/^([-*]|\d+\.) +(\[.\] +)?/,"")).flatMap(e=>e.match(/[^.!?]+[.!?]?/g)??[]).map(e=>e.trim()).filter(e=>e.length>12)}export{T as a,C as b,v as c,i as d,y as e,M as f,j as g};
