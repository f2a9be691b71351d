-- Near duplicates by meaning are looked for once a record is embedded, which may be long after its words were compared.
ALTER TABLE reading ADD COLUMN weighed boolean NOT NULL DEFAULT false;

-- An embedding speaks for the words that it was computed from: with other words it is computed anew.
CREATE FUNCTION vectors.forget_embedding() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.embedding := NULL;
    NEW.embedding_model := NULL;
    RETURN NEW;
END $$;
CREATE TRIGGER forget_embedding BEFORE UPDATE OF messages ON vectors.karma FOR EACH ROW
    WHEN (NEW.messages IS DISTINCT FROM OLD.messages AND NEW.embedding IS NOT DISTINCT FROM OLD.embedding)
    EXECUTE FUNCTION vectors.forget_embedding();
