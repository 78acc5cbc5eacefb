import{a}from"./chunk-XKKVN7EL.js";import"./chunk-Z3PM7PG4.js";import"./chunk-OOJM4CTU.js";export{a as default};
