-- By which days are found that are to be forgotten.
CREATE INDEX usage_by_day ON keys.usage (day);
