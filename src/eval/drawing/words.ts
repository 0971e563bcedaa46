/** The closed list of words that pictures carry and titles are made of: common English words of 3 to 7 letters. */
export const WORDS: readonly string[] = `
able act add again age ago air answer area arm army art ask bad base basic bath bean beat beauty become behind best better big bit block
blood boat body bold bone born bowl brain branch brave break bright bring brother build burn busy button buy call calm captain care
carry case catch center chain chance change chest child class clean clear close cloth coal coast coat coin color common cook copper copy
corner cotton country course cover crowd cry cup cut danger day dead deal dear deep desk doctor double draw dream drive drop dust early
earth east easy eat edge end energy enough equal evening fact fall famous far farm fast father fear feel fight fill find fine finger
flag flat fly fold food foot forest forget form forward free fresh friend front fruit garden gentle girl give glad gold good grass great
ground group grow guess guide hair hall happy harbor hard hear heavy hello help hero hide hill history holiday home hope hour human
hungry idea inside iron jacket job join journey judge jump jungle keep kind king kitchen knee lamp land large last late laugh learn
leather length level library life lift listen little live long look loud low magic main make market master match meal meet melt member
memory metal middle minute mirror modern month morning mother motor much narrow nature neck needle night noise number ocean office order
page paint pair paper parent park part path pattern people piece pilot pipe place plain plan planet plant play pocket point poor post
power present price print prize public pull push quick quiet race read ready real rich ride rise river road rock roof room root rope
round rule run sail salt sand save science sea season secret see seed send shade shake shape shelf shine short side silence silk silver
sing sister sit size skin sky slow small smile smooth soap soft soil soon sort sound soup south sport stage start station steel step
stick still store story street strong student sugar summer swim table tail talk tall taste teach test thank thick thin thing think
thunder tin today tool tooth touch town toy travel trip true turn uncle use valley view village violet visit voice wait wall warm wash
water wealth weather week welcome west wet whole wide wild window winter wire wise wish wonder wood wool work world worth write yard
year
`
  .trim()
  .split(/\s+/);
