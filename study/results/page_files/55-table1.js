// Table 1 of the paper, where the study is that.

const makeTable1 = () => {
  makeTable("table1");
  byId("table1-note").textContent = content.table1_note;
};
