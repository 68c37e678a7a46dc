-- By which days are found that are to be forgotten.
CREATE INDEX keys_usage_by_day ON keys_usage (day);
