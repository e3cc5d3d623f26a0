//! The writing side.

use super::Bounded;
use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};
use std::fmt::Display;

/// Values that take bytes, with nothing in them.
macro_rules! simple {
    ($($method:ident $kind:ty),*) => {$(
        fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.level.takes_bytes();
            self.inner.$method(value)
        }
    )*};
}

type Name = &'static str;

impl<'t, S: Serializer> Serializer for Bounded<'t, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Bounded<'t, S::SerializeSeq>;
    type SerializeTuple = Bounded<'t, S::SerializeTuple>;
    type SerializeTupleStruct = Bounded<'t, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Bounded<'t, S::SerializeTupleVariant>;
    type SerializeMap = Bounded<'t, S::SerializeMap>;
    type SerializeStruct = Bounded<'t, S::SerializeStruct>;
    type SerializeStructVariant = Bounded<'t, S::SerializeStructVariant>;

    simple! {
        serialize_bool bool, serialize_char char, serialize_str &str, serialize_bytes &[u8],
        serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128,
        serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128,
        serialize_f32 f32, serialize_f64 f64
    }

    fn collect_str<T: ?Sized + Display>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.level.takes_bytes();
        self.inner.collect_str(value)
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: Name) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.level.takes_bytes();
        self.inner.serialize_none()
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&self.level.takes_bytes().within(value, S::Error::custom)?)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        name: Name,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &self.level.within(value, S::Error::custom)?)
    }

    fn serialize_unit_variant(self, name: Name, index: u32, variant: Name) -> Result<S::Ok, S::Error> {
        self.level.takes_bytes();
        self.inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        name: Name,
        index: u32,
        variant: Name,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = self.level.takes_bytes().within(value, S::Error::custom)?;
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(self.level.takes_bytes().open().around(self.inner.serialize_seq(length)?))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(self.level.takes_bytes().open().around(self.inner.serialize_map(length)?))
    }

    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(self.level.around(self.inner.serialize_tuple(length)?))
    }

    fn serialize_tuple_struct(
        self,
        name: Name,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(self.level.around(self.inner.serialize_tuple_struct(name, length)?))
    }

    fn serialize_tuple_variant(
        self,
        name: Name,
        index: u32,
        variant: Name,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let inner = self.inner.serialize_tuple_variant(name, index, variant, length)?;
        Ok(self.level.takes_bytes().around(inner))
    }

    fn serialize_struct(self, name: Name, length: usize) -> Result<Self::SerializeStruct, S::Error> {
        Ok(self.level.around(self.inner.serialize_struct(name, length)?))
    }

    fn serialize_struct_variant(
        self,
        name: Name,
        index: u32,
        variant: Name,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let inner = self.inner.serialize_struct_variant(name, index, variant, length)?;
        Ok(self.level.takes_bytes().around(inner))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<T: ?Sized + Serialize> Serialize for Bounded<'_, &T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner.serialize(self.level.around(serializer))
    }
}

/// Elements, or fields, without a name or with one.
macro_rules! parts {
    ($($kind:ident $method:ident $($name:ident)?),*) => {$(
        impl<S: $kind> $kind for Bounded<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: ?Sized + Serialize>(&mut self, $($name: Name,)? value: &T) -> Result<(), S::Error> {
                self.inner.$method($($name,)? &self.level.within(value, S::Error::custom)?)?;
                self.level.count(S::Error::custom)
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        }
    )*};
}

parts! {
    SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field, SerializeStruct serialize_field name, SerializeStructVariant serialize_field name
}

impl<S: SerializeMap> SerializeMap for Bounded<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), S::Error> {
        self.inner.serialize_key(&self.level.within(key, S::Error::custom)?)
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), S::Error> {
        self.inner.serialize_value(&self.level.within(value, S::Error::custom)?)?;
        self.level.count(S::Error::custom)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.inner.end()
    }
}
