.bail on
pragma journal_mode = wal;
create table item (id integer primary key, name text, price real, body blob);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 60000)
insert into item select i, 'name ' || (i * 7919 % 10007), i / 7.0, zeroblob(i % 300) from n;
create index by_name on item (name, price);
create table tag (item integer references item, tag text);
insert into tag select id, 't' || (id % 53) from item union all select id, 'u' || (id % 31) from item;
create index by_tag on tag (tag, item);
select tag, count(*), round(sum(price), 3), max(name) from tag join item on item.id = tag.item
group by tag order by tag limit 20;
select group_concat(name, '|') from (select distinct name from item order by name desc limit 50);
update item set name = upper(name) || hex(id), body = zeroblob(1000) where id % 5 = 0;
delete from item where id % 3 = 0;
select count(*), sum(length(body)), sum(length(name)) from item;
with recursive f(a, b, n) as (select 0, 1, 0 union all select b, a + b, n + 1 from f where n < 80)
select max(a) from f;
select name, row_number() over (order by price), lag(name) over (order by id) from item order by id limit 10;
select json_group_array(json_object('id', id, 'name', name)) from (select * from item order by id limit 30);
vacuum;
pragma integrity_check;
